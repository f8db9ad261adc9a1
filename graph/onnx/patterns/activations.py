"""Elementwise operators of ONNX as terms: what a node computes of its arguments."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from onnx import NodeProto

from fettle.graph.onnx.patterns.chains import Term, is_number
from fettle.graph.onnx.protos import FETTLE, number

Argument = str | float
"""A tensor's name, or the value of a constant."""

_BINARY = {"Add": "+", "Sub": "-", "Mul": "*", "Div": "/", "Min": "min", "Max": "max"}
_UNARY = {
    "Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "Erf": "erf", "Exp": "exp", "Abs": "abs", "Neg": "neg",
    "Round": "round",
}  # fmt: skip


def term_of(node: NodeProto, arguments: Sequence[Argument | None]) -> Term | None:
    """A node as a term; None if no expression says it.

    Args:
        arguments: what stands at each input, None for those the node leaves out.
    """
    if node.domain not in ("", FETTLE):
        return None
    given = list(arguments)
    while given and given[-1] is None:
        given.pop()
    if node.op_type in _WRITERS:
        return _WRITERS[node.op_type](node, given)
    operation, count = (_BINARY.get(node.op_type), 2) if node.op_type in _BINARY else (_UNARY.get(node.op_type), 1)
    operands = tuple(argument for argument in given if argument is not None)
    if operation is None or len(operands) != count:
        return None  # Min and Max take any number of tensors
    return Term(operation, operands).simplified()


def _attribute(node: NodeProto, name: str, default: float) -> float:
    """A float32 attribute, as the shortest decimal that is this number: ONNX stores 0.2 as 0.200000003."""
    return float(str(np.float32(number(node, name, default))))


def _clip(node: NodeProto, given: Sequence[Argument | None]) -> Term | None:
    """Bounds are inputs, or attributes before opset 11. Those near float32's limits, their defaults, bound nothing."""
    bounds = [*given[1:], None, None][:2]
    for index, name in enumerate(("min", "max")):
        if any(attribute.name == name for attribute in node.attribute):
            bounds[index] = _attribute(node, name, 0.0)
    result: Argument | Term | None = given[0]
    for operation, bound in zip(("max", "min"), bounds, strict=True):
        if result is not None and bound is not None and (isinstance(bound, str) or is_number(bound)):
            result = Term(operation, (result, bound))
    return result if isinstance(result, Term) else None


def _ramp(x: Argument, slope: float, offset: float) -> Term:
    """slope·x + offset between 0 and 1."""
    line = Term("+", (Term("*", (x, slope)), offset))
    return Term("min", (Term("max", (line, 0.0)), 1.0))


def _hard_sigmoid(node: NodeProto, given: Sequence[Argument | None]) -> Term | None:
    (x,) = given
    return None if x is None else _ramp(x, _attribute(node, "alpha", 0.2), _attribute(node, "beta", 0.5))


def _hard_swish(node: NodeProto, given: Sequence[Argument | None]) -> Term | None:
    (x,) = given
    return None if x is None else Term("*", (x, _ramp(x, float(str(np.float32(1 / 6))), 0.5)))


def _leaky(x: Argument, slope: Argument) -> Term:
    return Term("+", (Term("max", (x, 0.0)), Term("*", (Term("min", (x, 0.0)), slope))))


def _leaky_relu(node: NodeProto, given: Sequence[Argument | None]) -> Term | None:
    (x,) = given
    return None if x is None else _leaky(x, _attribute(node, "alpha", 0.01))


def _parametric_relu(node: NodeProto, given: Sequence[Argument | None]) -> Term | None:
    x, slope = given
    return None if x is None or slope is None else _leaky(x, slope)


def _elu(node: NodeProto, given: Sequence[Argument | None]) -> Term | None:
    (x,) = given
    if x is None:
        return None
    below = Term("-", (Term("exp", (Term("min", (x, 0.0)),)), 1.0))
    return Term("+", (Term("max", (x, 0.0)), Term("*", (below, _attribute(node, "alpha", 1.0)))))


def _swish(node: NodeProto, given: Sequence[Argument | None]) -> Term | None:
    (x,) = given
    if x is None:
        return None
    alpha = _attribute(node, "alpha", 1.0)
    if alpha == 1.0:
        return Term("silu", (x,))
    return Term("*", (x, Term("sigmoid", (Term("*", (alpha, x)),))))


def _gelu(node: NodeProto, given: Sequence[Argument | None]) -> Term | None:
    """x·Φ(x), Φ the normal distribution function (Hendrycks & Gimpel, 1606.08415), or their approximation of it."""
    (x,) = given
    if x is None:
        return None
    if any(a.name == "approximate" and a.s == b"tanh" for a in node.attribute):
        cubed = Term("*", (Term("*", (Term("*", (x, x)), x)), 0.044715))
        inner = Term("tanh", (Term("*", (Term("+", (x, cubed)), math.sqrt(2.0 / math.pi))),))
    else:
        inner = Term("erf", (Term("*", (x, math.sqrt(0.5))),))
    return Term("*", (Term("*", (x, 0.5)), Term("+", (inner, 1.0))))


def _reciprocal(node: NodeProto, given: Sequence[Argument | None]) -> Term | None:
    (x,) = given
    return None if x is None else Term("/", (1.0, x))


def _power(node: NodeProto, given: Sequence[Argument | None]) -> Term | None:
    """Squares and cubes."""
    x, exponent = given
    if x is None or exponent not in (2.0, 3.0):
        return None
    square = Term("*", (x, x))
    return square if exponent == 2.0 else Term("*", (square, x))


_WRITERS: Mapping[str, Callable[[NodeProto, Sequence[Argument | None]], Term | None]] = {
    "Clip": _clip,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "LeakyRelu": _leaky_relu,
    "PRelu": _parametric_relu,
    "Elu": _elu,
    "Swish": _swish,
    "Gelu": _gelu,
    "Reciprocal": _reciprocal,
    "Pow": _power,
}

ELEMENTWISE = (*_BINARY, *_UNARY, *_WRITERS)
"""Operators that :func:`term_of` knows."""
