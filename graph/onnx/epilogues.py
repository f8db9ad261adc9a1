"""Elementwise nodes after a float product, as the epilogue of its workload."""

from __future__ import annotations

import math

from onnx import NodeProto

from fettle.graph.errors import InvalidWorkload
from fettle.graph.expressions import FUNCTIONS
from fettle.graph.onnx.chains import BINARY, UNARY, is_number
from fettle.graph.onnx.match import Facts, Match, NoWorkload
from fettle.graph.onnx.protos import number
from fettle.graph.workload import Workload


def takes_epilogue(match: Match | None) -> bool:
    """Whether a node is a product whose kernels can go on with its result."""
    if match is None:
        return False
    if match.workload.operator == "conv2d":
        return True
    return match.workload.operator == "matmul" and str(match.workload["weight"] or match.workload["rhs"]) == "f32"


def extend(product: Match, output: str, node: NodeProto, facts: Facts) -> Match | None:
    """The product with ``node``, which reads its ``output``, done in the epilogue; None if that cannot be.

    Another argument may be a number, a constant row, or a tensor of the result's shape.
    """
    operation = BINARY.get(node.op_type) or UNARY.get(node.op_type)
    if operation is None or node.domain or (node.op_type == "Swish" and number(node, "alpha", 1.0) != 1.0):
        return None
    if list(node.input).count(output) != 1:
        return None
    workload = product.workload
    epilogue = workload["epilogue"]
    count = {"b": epilogue.rows, "x": epilogue.operands} if epilogue else {"b": 0, "x": 0}
    first, rows = product.inputs[:2], list(product.inputs[2 : 2 + count["b"]])
    full = list(product.inputs[2 + count["b"] :])
    arguments = []
    try:
        result = facts.shape(output)
        if facts.shape(node.output[0]) != result:
            return None
        for name in node.input:
            if name == output:
                arguments.append(f"({epilogue or 'y'})")
            elif name in facts.scalars and is_number(facts.scalars[name]):
                arguments.append(repr(facts.scalars[name]))
            elif name in facts.constants and _is_row(facts.shape(name), result, workload):
                arguments.append(f"b{len(rows)}")
                rows.append((name,))
            elif facts.shape(name) == result:
                arguments.append(f"x{len(full)}")
                full.append((name,))
            else:
                return None
        text = _text(operation, arguments)
        fields = {**dict(workload.fields), "epilogue": text}
        return Match(Workload.of(workload.operator, **fields), (*first, *rows, *full))
    except (NoWorkload, InvalidWorkload):
        return None


def _text(operation: str, arguments: list[str]) -> str:
    if operation in FUNCTIONS:
        return f"{operation}({arguments[0]})"
    return f"-{arguments[0]}" if operation == "neg" else operation.join(arguments)


def _is_row(shape: tuple[int, ...], result: tuple[int, ...], workload: Workload) -> bool:
    """Whether a constant of this shape holds one number for each column, or each channel, of the result."""
    if len(shape) > len(result):
        return False
    if workload.operator == "conv2d":
        channels = (workload["oc"], *(1 for _ in result[2:]))
        return shape[-len(channels) :] == channels and math.prod(shape) == workload["oc"]
    return bool(shape) and shape[-1] == workload["n"] == result[-1] and math.prod(shape) == workload["n"]
