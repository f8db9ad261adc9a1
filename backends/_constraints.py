"""Constraint expressions: parsed once and checked; :mod:`fettle.backends._evaluation` evaluates them."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping, Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.backends._evaluation import ARITHMETIC, COMPARISONS, EXACT, Column, Evaluator, truth
from fettle.backends.api import Constraint, Parameter
from fettle.graph.errors import InvalidArgument

_MAX_NODES = 1000


@attrs.frozen(eq=False)
class Predicate:
    """A checked constraint.

    Attributes:
        constraint: where it comes from.
        names: the parameters it reads.
    """

    constraint: Constraint
    names: frozenset[str]
    _tree: ast.expr
    _exact: bool

    @classmethod
    def parse(cls, constraint: Constraint, parameters: Sequence[Parameter]) -> Predicate:
        """Check a constraint against the parameters it may name.

        Raises:
            InvalidArgument: malformed, an operation that is not allowed, an unknown name, or text mixed with numbers.
        """
        text = constraint.expression
        try:
            tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            raise InvalidArgument(
                f"malformed constraint {text[:200]!r}", hint="example: tile_m * tile_n <= 512"
            ) from None
        nodes = list(ast.walk(tree))
        if len(nodes) > _MAX_NODES:
            raise InvalidArgument(f"constraint of more than {_MAX_NODES} syntax nodes")
        checker = _Checker(text, {p.name: p for p in parameters})
        checker.check(tree)
        functions = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
        names = frozenset(n.id for n in nodes if isinstance(n, ast.Name) and id(n) not in functions)
        return cls(constraint, names, tree, checker.largest > EXACT)

    def holds(self, columns: Mapping[str, Column]) -> NDArray[np.bool_]:
        """Rows that satisfy it. ``columns`` has one array, all of one length, per name in :attr:`names`.

        Raises:
            InvalidArgument: a whole number is too large to be compared or combined with a fraction.
        """
        try:
            with np.errstate(all="ignore"):
                value, error = Evaluator(columns, self._exact).evaluate(self._tree)
        except OverflowError as overflow:
            raise InvalidArgument(f"constraint {self}: {overflow}") from None
        return np.asarray(truth(value) & ~error, dtype=np.bool_)

    def __str__(self) -> str:
        reason = f" ({self.constraint.reason})" if self.constraint.reason else ""
        return f"{self.constraint.expression}{reason}"


class _Checker:
    """Rejects what is not allowed; returns (is text, largest magnitude) of every subexpression."""

    def __init__(self, text: str, parameters: Mapping[str, Parameter]) -> None:
        self._text = text
        self._parameters = parameters
        self.largest: float = 0

    def _reject(self, why: str) -> InvalidArgument:
        return InvalidArgument(f"constraint {self._text[:200]!r}: {why}")

    def check(self, node: ast.expr) -> tuple[bool, float]:
        is_text, magnitude = self._check(node)
        self.largest = max(self.largest, magnitude)
        return is_text, magnitude

    def _alike(self, nodes: Sequence[ast.expr]) -> tuple[bool, list[float]]:
        checked = [self.check(node) for node in nodes]
        if len({is_text for is_text, _ in checked}) != 1:
            raise self._reject("mixes text and numbers")
        return checked[0][0], [magnitude for _, magnitude in checked]

    def _numbers(self, nodes: Sequence[ast.expr]) -> list[float]:
        is_text, magnitudes = self._alike(nodes)
        if is_text:
            raise self._reject("computes with text")
        return magnitudes

    def _check(self, node: ast.expr) -> tuple[bool, float]:
        match node:
            case ast.Constant(value=bool() | int() | float() as value):
                return False, abs(value)
            case ast.Constant(value=str()):
                return True, 0
            case ast.Name(id=name):
                if name not in self._parameters:
                    known = " ".join(self._parameters)
                    raise self._reject(f"unknown parameter {name!r}; the space has: {known}")
                numbers = [abs(c) for c in self._parameters[name].choices if not isinstance(c, str)]
                return not numbers, max(numbers, default=0)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in ARITHMETIC:
                a, b = self._numbers((left, right))
                if isinstance(op, ast.Mult):
                    product = a * b
                    return False, math.inf if math.isnan(product) else product
                # a quotient of whole numbers is no larger than the dividend, a remainder than the divisor
                return False, a + b
            case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
                return False, self._numbers((operand,))[0]
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                self.check(operand)
                return False, 1
            case ast.BoolOp(values=values):
                is_text, magnitudes = self._alike(values)
                return is_text, max(magnitudes)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                self.check(test)
                is_text, magnitudes = self._alike((body, orelse))
                return is_text, max(magnitudes)
            case ast.Compare():
                self._comparison(node)
                return False, 1
            case ast.Call(func=ast.Name(id="min" | "max"), args=arguments, keywords=[]) if len(arguments) > 1:
                return False, max(self._numbers(arguments))
            case _:
                raise self._reject(
                    f"{ast.unparse(node)[:80]!r} is not allowed; use names, numbers, text, + - * // %, comparisons, "
                    "and or not, a if c else b, min(a, b), max(a, b)"
                )

    def _comparison(self, node: ast.Compare) -> None:
        for op, first, second in zip(node.ops, (node.left, *node.comparators), node.comparators, strict=False):
            if isinstance(op, ast.In | ast.NotIn) and len(node.ops) == 1 and isinstance(second, ast.Tuple):
                self._alike((first, *second.elts))
            elif type(op) in COMPARISONS:
                self._alike((first, second))
            else:
                raise self._reject("allowed comparisons are == != < <= > >=, and a single `in` with a tuple")
