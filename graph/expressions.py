"""Elementwise expressions: ``silu(x0)*x1``. Parsed with Python's own parser, restricted to arithmetic.

Grammar: ``x0 … x15``, numbers, ``+ - * /``, unary minus, parentheses, the functions of :data:`FUNCTIONS`, and
``min(a, b)`` and ``max(a, b)``. The canonical text is Python's own unparsing without spaces.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.graph.errors import InvalidWorkload

Array = NDArray[np.float64]

MAX_OPERANDS = 16
_MAX_NODES = 64
_U = 2.0**-24
_FUNCTION_ULPS = 16.0
"""Rounding of one function of ours, in units of u relative to its value (polynomial exp included)."""


def _sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0 / (1.0 + e), e / (1.0 + e))


def _erf(x: Array) -> Array:
    from scipy.special import erf

    value: Array = erf(x)
    return value


def _one(x: Array) -> Array:
    return np.ones_like(x)


@attrs.frozen
class Function:
    """A function of one argument with its value in float64 and a bound of its derivative near ``x``."""

    value: Callable[[Array], Array]
    slope: Callable[[Array], Array]


FUNCTIONS: dict[str, Function] = {
    "relu": Function(lambda x: np.maximum(x, 0.0), _one),
    "sigmoid": Function(_sigmoid, lambda x: np.full_like(x, 0.25)),
    "silu": Function(lambda x: x * _sigmoid(x), lambda x: np.full_like(x, 1.1)),
    "tanh": Function(np.tanh, _one),
    "erf": Function(_erf, lambda x: np.full_like(x, 1.13)),
    "exp": Function(np.exp, np.exp),
    "abs": Function(np.abs, _one),
    "round": Function(np.rint, _one),
}
"""Of one argument. ``round`` is to the nearest whole number, halves to the even one."""

EXTREMES: dict[str, Callable[[Array, Array], Array]] = {"min": np.minimum, "max": np.maximum}
"""Of two arguments."""

NAMES = frozenset((*FUNCTIONS, *EXTREMES))
"""Every function an expression may call."""

_OPERATORS: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}


@attrs.frozen
class Expression:
    """A canonical expression text; equality and hash are those of the text."""

    text: str

    @classmethod
    def parse(cls, text: str) -> Expression:
        """Check and canonicalise.

        Raises:
            InvalidWorkload: not an expression of the grammar, or operands are not numbered from x0 without gaps.
        """
        try:
            tree = ast.parse(text, mode="eval").body
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            raise InvalidWorkload(f"malformed expression {text[:64]!r}", hint="example: silu(x0)*x1") from None
        if sum(1 for _ in ast.walk(tree)) > 4 * _MAX_NODES:
            raise InvalidWorkload(f"expression of more than {_MAX_NODES} operations")
        used: set[int] = set()
        _check(tree, used)
        if not used:
            raise InvalidWorkload(f"expression {text!r} uses no operand", hint="operands are x0, x1, …")
        if used != set(range(len(used))):
            raise InvalidWorkload(
                f"expression {text!r} skips an operand", hint="number operands x0, x1, … without gaps"
            )
        return cls(ast.unparse(tree).replace(" ", ""))

    def __str__(self) -> str:
        return self.text

    @property
    def tree(self) -> ast.expr:
        """The parsed expression; only nodes that :meth:`parse` allows."""
        return ast.parse(self.text, mode="eval").body

    @property
    def arity(self) -> int:
        """Number of operands."""
        return 1 + max(int(n.id[1:]) for n in ast.walk(self.tree) if isinstance(n, ast.Name) and n.id not in NAMES)

    @property
    def operations(self) -> int:
        """Number of arithmetic operations and function calls."""
        return sum(isinstance(n, ast.BinOp | ast.UnaryOp | ast.Call) for n in ast.walk(self.tree))

    def fold(self, leaf: Callable[[int], Any], number: Callable[[float], Any], apply: Callable[..., Any]) -> Any:
        """Rebuild the expression in another algebra.

        Args:
            leaf: operand index -> value.
            number: constant -> value.
            apply: (``+ - * /``, ``neg`` or a name of :data:`NAMES`, values …) -> value.
        """
        return _fold(self.tree, leaf, number, apply)

    def evaluate_with_bound(self, operands: Sequence[Array], errors: Sequence[Array] = ()) -> tuple[Array, Array]:
        """Value in float64 and the error a float32 evaluation may have, both elementwise.

        Args:
            errors: what the first operands may already be off by; the others are exact.
        """

        def apply(op: str, *args: tuple[Array, Array]) -> tuple[Array, Array]:
            a, da = args[0]
            if op == "neg":
                return -a, da
            if op == "round":  # it steps: what matters is where the ends of the interval go
                value = np.rint(a)
                return value, np.maximum(np.rint(a + da) - value, value - np.rint(a - da))
            if op in FUNCTIONS:
                value = FUNCTIONS[op].value(a)
                return value, FUNCTIONS[op].slope(a) * da + _FUNCTION_ULPS * _U * np.abs(value)
            b, db = args[1]
            if op in EXTREMES:
                return EXTREMES[op](a, b), np.maximum(da, db)
            if op in "+-":
                value = a + b if op == "+" else a - b
                return value, da + db + _U * np.abs(value)
            if op == "*":
                value = a * b
                return value, np.abs(a) * db + np.abs(b) * da + _U * np.abs(value)
            value = a / b
            return value, (da + np.abs(value) * db) / np.abs(b) + 4.0 * _U * np.abs(value)

        shape = np.broadcast_shapes(*(o.shape for o in operands))
        zero = np.zeros(shape)
        with np.errstate(all="ignore"):
            value, bound = self.fold(
                lambda i: (operands[i], errors[i] if i < len(errors) else zero),
                lambda c: (np.full(shape, c), np.full(shape, _U * abs(c))),
                apply,
            )
        return value, 2.0 * bound


def _check(node: ast.expr, used: set[int]) -> None:
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        _check(node.left, used)
        _check(node.right, used)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        _check(node.operand, used)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in NAMES:
        count = 2 if node.func.id in EXTREMES else 1
        if len(node.args) != count or node.keywords:
            raise InvalidWorkload(f"function {node.func.id} takes {'two arguments' if count == 2 else 'one argument'}")
        for argument in node.args:
            _check(argument, used)
    elif (
        isinstance(node, ast.Name)
        and node.id[:1] == "x"
        and node.id[1:].isdigit()
        and str(int(node.id[1:])) == node.id[1:]
    ):
        index = int(node.id[1:])
        if index >= MAX_OPERANDS:
            raise InvalidWorkload(f"operand {node.id}: at most {MAX_OPERANDS} operands are allowed")
        used.add(index)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        if not abs(node.value) < 2.0**127:
            raise InvalidWorkload(f"constant {str(node.value)[:32]} is out of range")
    else:
        raise InvalidWorkload(
            f"{ast.unparse(node)[:64]!r} is not allowed in an expression",
            hint=f"allowed: x0…x15, numbers, + - * /, {' '.join([*FUNCTIONS, *EXTREMES])}",
        )


def _fold(node: ast.expr, leaf: Callable[[int], Any], number: Callable[[float], Any], apply: Callable[..., Any]) -> Any:
    if isinstance(node, ast.BinOp):
        return apply(
            _OPERATORS[type(node.op)], _fold(node.left, leaf, number, apply), _fold(node.right, leaf, number, apply)
        )
    if isinstance(node, ast.UnaryOp):
        return apply("neg", _fold(node.operand, leaf, number, apply))
    if isinstance(node, ast.Call):
        assert isinstance(node.func, ast.Name)
        return apply(node.func.id, *(_fold(argument, leaf, number, apply) for argument in node.args))
    if isinstance(node, ast.Name):
        return leaf(int(node.id[1:]))
    assert isinstance(node, ast.Constant)
    assert isinstance(node.value, int | float)
    return number(float(node.value))
