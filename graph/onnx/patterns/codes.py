"""Conversions between codes of 8 bits and numbers, as part of the workloads before and after them.

A product of codes is a sum of whole numbers; Cast makes floats of it, and an epilogue follows. Round, Clip to the
bounds of a type and Cast to that type are how results of that type are stored anyway. Without Round, Cast cuts towards
zero, which no kernel does.
"""

from __future__ import annotations

import ast
from collections.abc import Container, Mapping

import attrs
import numpy as np
from onnx import NodeProto, TensorProto

from fettle.graph.errors import InvalidWorkload
from fettle.graph.onnx.patterns.facts import CODES, Facts, Match
from fettle.graph.onnx.protos import integer
from fettle.graph.workload import Workload

_LIMITS = {"u8": np.iinfo(np.uint8), "i8": np.iinfo(np.int8)}


def reads_codes(node: NodeProto, facts: Facts) -> str:
    """The format of the codes that a node makes floats of; empty if it does anything else."""
    if node.domain or node.op_type != "Cast" or integer(node, "to", 0) != TensorProto.FLOAT:
        return ""
    kind = facts.types.get(node.input[0])
    return "" if kind is None else CODES.get(kind.element, "")


def converted(before: Match, node: NodeProto, facts: Facts) -> Match | None:
    """A product of codes, or an elementwise workload, whose result a Cast converts; None if that cannot be."""
    if node.domain or node.op_type != "Cast":
        return None
    target, workload = integer(node, "to", 0), before.workload
    fields = dict(workload.fields)
    expression = {"elementwise": "expr"}.get(workload.operator, "epilogue")
    out = str(workload.result.format)
    if out == "i32" and target == TensorProto.FLOAT:
        fields |= {"epilogue": "y", "out": "f32"}
    elif out == "f32" and target in CODES and expression in fields and str(workload["act"]) in _taken(workload):
        text = _without_bounds(fields[expression], CODES[target], _whole_rows(before, facts))
        if text is None:
            return None
        fields |= {expression: text, "out": CODES[target]}
    else:
        return None
    try:
        return Match(Workload.of(workload.operator, **fields), before.inputs)
    except InvalidWorkload:
        return None


def of_codes(match: Match, sources: Mapping[str, str], act: str) -> Match:
    """An elementwise workload of floats that reads codes instead.

    Args:
        sources: the codes of each float tensor.
        act: their format.
    """
    fields = dict(match.workload.fields)
    inputs = tuple((sources[name],) for (name,) in match.inputs)
    workload = Workload.of("elementwise", **{**fields, "act": act, "out": match.workload["out"]})
    return attrs.evolve(match, workload=workload, inputs=inputs, term=None)


def _taken(workload: Workload) -> tuple[str, ...]:
    """Formats of x from which kernels store codes."""
    return ("f32", "u8", "i8") if workload.operator == "elementwise" else ("u8", "i8")


def _whole_rows(product: Match, facts: Facts) -> frozenset[str]:
    """Rows of an epilogue that hold whole numbers, by their names in it."""
    epilogue = product.workload["epilogue"] if product.workload.operator != "elementwise" else None
    if epilogue is None:
        return frozenset()
    rows = product.inputs[len(product.inputs) - epilogue.rows - epilogue.operands :]
    return frozenset(f"b{i}" for i in range(epilogue.rows) if rows[i][0] in facts.whole)


def _without_bounds(text: str, format: str, whole: Container[str]) -> str | None:
    """An expression without the rounding and the bounds of a format that end it. None if its numbers are not whole, or
    it ends in no bounds, or in wider ones: then Cast cuts otherwise.

    Args:
        whole: operands of whole numbers.
    """
    limits = _LIMITS[format]
    tree = ast.parse(text, mode="eval").body
    found = _bounded(tree)
    if found is None or not _is_whole(tree, whole):
        return None
    inner, low, high = found
    if not limits.min <= low <= high <= limits.max:
        return None
    if (low, high) != (limits.min, limits.max):
        return text
    if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Name) and inner.func.id == "round":
        (inner,) = inner.args
    return ast.unparse(inner)


def _is_whole(tree: ast.expr, whole: Container[str]) -> bool:
    """Whether an expression gives whole numbers, as far as its form tells."""
    match tree:
        case ast.Constant(value=float(number) | int(number)):
            return float(number).is_integer()
        case ast.Name(id=name):
            return name in whole
        case ast.UnaryOp(operand=inner):
            return _is_whole(inner, whole)
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub(), right=right):
            return _is_whole(left, whole) and _is_whole(right, whole)
        case ast.Call(func=ast.Name(id="round")):
            return True
        case ast.Call(func=ast.Name(id="min" | "max"), args=arguments):
            return all(_is_whole(argument, whole) for argument in arguments)
    return False


def _bounded(tree: ast.expr) -> tuple[ast.expr, float, float] | None:
    """``min(max(inner, low), high)``, taken apart."""
    bounds = []
    for name in ("min", "max"):
        if not (isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and tree.func.id == name):
            return None
        tree, bound = tree.args
        try:
            bounds.append(float(ast.literal_eval(bound)))
        except ValueError:
            return None
    return tree, bounds[1], bounds[0]
