"""Elementwise nodes after a float product, as the epilogue of its workload."""

from __future__ import annotations

import math

from onnx import NodeProto

from fettle.graph.errors import InvalidWorkload
from fettle.graph.onnx.patterns.activations import term_of
from fettle.graph.onnx.patterns.chains import Term
from fettle.graph.onnx.patterns.facts import Facts, Match, NoWorkload, is_row
from fettle.graph.workload import Workload


def takes_epilogue(match: Match | None) -> bool:
    """Whether a node is a product whose kernels can go on with its result."""
    if match is None:
        return False
    if match.workload.operator == "conv2d":
        return True
    workload = match.workload
    return workload.operator == "matmul" and str(workload["weight"] or workload["rhs"]) in ("f32", "i8")


def node_term(node: NodeProto, facts: Facts) -> Term | None:
    """What a node computes elementwise of tensors of any shapes; None if it does not."""
    return term_of(node, [facts.scalars.get(name, name) if name else None for name in node.input])


def extend(product: Match, output: str, term: Term, result: str, facts: Facts) -> Match | None:
    """The product with ``term``, which reads its ``output``, done in the epilogue; None if that cannot be.

    Other tensors may be constant rows, or have the result's shape.

    Args:
        output: the product's result, or a view of it.
        result: what the term computes.
    """
    workload = product.workload
    epilogue = workload["epilogue"]
    if epilogue is not None and term.count(output) > 1 and "(" in epilogue.text:
        return None  # perhaps a function, which would be called twice
    count = {"b": epilogue.rows, "x": epilogue.operands} if epilogue else {"b": 0, "x": 0}
    operands = len(workload.operands) - sum(count.values())  # x, the weight, perhaps a zero point
    first, rows = product.inputs[:operands], list(product.inputs[operands : operands + count["b"]])
    full = list(product.inputs[operands + count["b"] :])
    words = {output: f"({epilogue or 'y'})"}
    try:
        shape = facts.shape(output)
        if facts.shape(result) != shape:
            return None
        for name in term.tensors():
            if name == output:
                continue
            if name in facts.constants and _is_row(facts.shape(name), shape, workload):
                words[name] = f"b{len(rows)}"
                rows.append((name,))
            elif facts.shape(name) == shape:
                words[name] = f"x{len(full)}"
                full.append((name,))
            else:
                return None
        fields = {**dict(workload.fields), "epilogue": term.written(words)}
        return Match(Workload.of(workload.operator, **fields), (*first, *rows, *full))
    except (NoWorkload, InvalidWorkload):
        return None


def _is_row(shape: tuple[int, ...], result: tuple[int, ...], workload: Workload) -> bool:
    """Whether a constant of this shape holds one number for each column, or each channel, of the result."""
    if len(shape) > len(result):
        return False
    if workload.operator == "conv2d":
        channels = (workload["oc"], *(1 for _ in result[2:]))
        whole = result[:2] == (workload["n"], workload["oc"])  # a view may have another axis where channels were
        return whole and shape[-len(channels) :] == channels and math.prod(shape) == workload["oc"]
    return is_row(shape, workload["n"]) and result[-1:] == shape[-1:]
