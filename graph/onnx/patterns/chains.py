"""Fused chains of elementwise nodes, as terms over tensor names."""

from __future__ import annotations

import math
from collections.abc import Mapping

import attrs

from fettle.graph.expressions import FUNCTIONS, MAX_OPERANDS, NAMES

MAX_OPERATIONS = 32
"""Longer chains are cut: an expression may have at most 64 nodes."""

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
        """Expression text, of these texts in place of tensors."""
        parts = []
        for argument in self.arguments:
            if isinstance(argument, Term):
                parts.append(f"({argument.written(operands)})")
            elif isinstance(argument, str):
                parts.append(operands[argument])
            else:
                parts.append(repr(argument))
        if self.operation in NAMES:
            return f"{self.operation}({','.join(parts)})"
        return f"-{parts[0]}" if self.operation == "neg" else f"{parts[0]}{self.operation}{parts[1]}"


def is_number(value: float) -> bool:
    """Whether a constant can be written into an expression."""
    return math.isfinite(value) and abs(value) < 2.0**127
