"""Fused chains of elementwise nodes, as terms over tensor names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import attrs
from onnx import NodeProto

from fettle.graph.expressions import FUNCTIONS, MAX_OPERANDS
from fettle.graph.onnx.protos import FETTLE, number

MAX_OPERATIONS = 32
"""Longer chains are cut: an expression may have at most 64 nodes."""

BINARY = {"Add": "+", "Sub": "-", "Mul": "*", "Div": "/"}
UNARY = {
    "Relu": "relu", "Sigmoid": "sigmoid", "Swish": "silu", "Tanh": "tanh", "Erf": "erf", "Exp": "exp", "Abs": "abs",
    "Neg": "neg",
}  # fmt: skip

OPERATORS = (*BINARY, *UNARY, "Reciprocal", "Pow", "Gelu")
"""ONNX operators that :func:`term_of` knows, as far as it does."""

VIEWS = frozenset({"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze"})
"""Operators whose result has the elements of the first input, in their order."""


@attrs.frozen
class Term:
    """An expression tree: an operation over terms, tensor names (text) and numbers."""

    operation: str
    arguments: tuple[Term | str | float, ...]

    def tensors(self) -> dict[str, None]:
        """Tensor names in order of appearance, without repeats."""
        names: dict[str, None] = {}
        for argument in self.arguments:
            if isinstance(argument, str):
                names[argument] = None
            elif isinstance(argument, Term):
                names |= argument.tensors()
        return names

    def count(self, tensor: str) -> int:
        """How often a tensor occurs."""
        return sum(a.count(tensor) if isinstance(a, Term) else a == tensor for a in self.arguments)

    @property
    def is_arithmetic(self) -> bool:
        """Whether it is cheap enough to be computed twice: no function is called."""
        inside = all(a.is_arithmetic for a in self.arguments if isinstance(a, Term))
        return inside and self.operation not in FUNCTIONS

    @property
    def operations(self) -> int:
        """Number of operations in the tree."""
        return 1 + sum(a.operations for a in self.arguments if isinstance(a, Term))

    def substitute(self, tensor: str, by: Term) -> Term:
        """The term with a tensor replaced by what computes it."""

        def replace(argument: Term | str | float) -> Term | str | float:
            if isinstance(argument, Term):
                return argument.substitute(tensor, by)
            return by if argument == tensor else argument

        return Term(self.operation, tuple(map(replace, self.arguments))).simplified()

    def simplified(self) -> Term:
        """``x * sigmoid(x)``, as exporters write it, is ``silu(x)``."""
        if self.operation == "*":
            for value, gate in (self.arguments, self.arguments[::-1]):
                if isinstance(gate, Term) and gate.operation == "sigmoid" and gate.arguments == (value,):
                    return Term("silu", (value,))
        return self

    @property
    def fits(self) -> bool:
        """Whether one expression can hold it."""
        return self.operations <= MAX_OPERATIONS and len(self.tensors()) <= MAX_OPERANDS

    def text(self) -> str:
        """Expression text over x0, x1, … numbered in order of appearance."""
        return self.written({name: f"x{i}" for i, name in enumerate(self.tensors())})

    def written(self, operands: Mapping[str, str]) -> str:
        """Expression text with other words for the tensor names."""
        parts = []
        for argument in self.arguments:
            if isinstance(argument, Term):
                parts.append(f"({argument.written(operands)})")
            elif isinstance(argument, str):
                parts.append(operands[argument])
            else:
                parts.append(repr(argument))
        if self.operation in FUNCTIONS:
            return f"{self.operation}({parts[0]})"
        return f"-{parts[0]}" if self.operation == "neg" else f"{parts[0]}{self.operation}{parts[1]}"


def term_of(node: NodeProto, arguments: Sequence[str | float]) -> Term | None:
    """What an elementwise node computes of these arguments; None if no term says it."""
    if node.domain not in ("", FETTLE):
        return None
    match node.op_type:
        case "Swish" if number(node, "alpha", 1.0) != 1.0:
            return Term("*", (arguments[0], Term("sigmoid", (Term("*", (number(node, "alpha"), arguments[0])),))))
        case "Gelu":
            return _gelu(arguments[0], any(a.name == "approximate" and a.s == b"tanh" for a in node.attribute))
        case "Reciprocal":
            return Term("/", (1.0, arguments[0]))
        case "Pow" if arguments[1] in (2.0, 3.0):
            square = Term("*", (arguments[0], arguments[0]))
            return square if arguments[1] == 2.0 else Term("*", (square, arguments[0]))
    operation = BINARY.get(node.op_type) or UNARY.get(node.op_type)
    return Term(operation, tuple(arguments)).simplified() if operation is not None else None


def _gelu(x: str | float, approximate: bool) -> Term:
    """x·Φ(x), Φ the normal distribution function (Hendrycks & Gimpel, 1606.08415), or their approximation of it."""
    if approximate:
        cubed = Term("*", (Term("*", (Term("*", (x, x)), x)), 0.044715))
        inner = Term("tanh", (Term("*", (Term("+", (x, cubed)), math.sqrt(2.0 / math.pi))),))
    else:
        inner = Term("erf", (Term("*", (x, math.sqrt(0.5))),))
    return Term("*", (Term("*", (x, 0.5)), Term("+", (inner, 1.0))))


def is_number(value: float) -> bool:
    """Whether a constant can be written into an expression."""
    return math.isfinite(value) and abs(value) < 2.0**127
