"""Constraint expressions: parsed once, checked, and evaluated in NumPy over whole columns of schedules.

The result is what Python itself would answer row by row: integers of any size are exact, ``and``, ``or``,
``if`` and chained comparisons skip what Python would skip, and a row on which Python would divide by zero
does not satisfy the constraint.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.backends.api import Constraint, Parameter, Value
from fettle.graph.errors import InvalidArgument

Column = NDArray[Any]

_MAX_NODES = 1000
_EXACT = 2**53
"""Up to here int64 cannot overflow in one operation's result and float64 holds every integer."""

_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.FloorDiv: np.floor_divide,
    ast.Mod: np.mod,
}


def column(values: Sequence[Value]) -> Column:
    """Values of one type as an array that computes like Python: integers beyond 2^53 stay Python integers."""
    kind = type(values[0])
    if kind is int and max(abs(int(v)) for v in values) > _EXACT:
        return np.array(values, dtype=object)
    return np.array(values, dtype={bool: np.bool_, int: np.int64, float: np.float64, str: np.str_}[kind])


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
        return cls(constraint, names, tree, checker.largest > _EXACT)

    def holds(self, columns: Mapping[str, Column]) -> NDArray[np.bool_]:
        """Rows that satisfy it. ``columns`` has one array, all of one length, per name in :attr:`names`.

        Raises:
            InvalidArgument: a whole number is too large to be compared or combined with a fraction.
        """
        try:
            with np.errstate(all="ignore"):
                value, error = _Evaluator(columns, self._exact).evaluate(self._tree)
        except OverflowError as overflow:
            raise InvalidArgument(f"constraint {self}: {overflow}") from None
        return np.asarray(_truth(value) & ~error, dtype=np.bool_)

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
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
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
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                for comparison, first, second in zip(ops, (left, *comparators), comparators, strict=False):
                    if isinstance(comparison, ast.In | ast.NotIn) and len(ops) == 1 and isinstance(second, ast.Tuple):
                        self._alike((first, *second.elts))
                    elif type(comparison) in _COMPARISONS:
                        self._alike((first, second))
                    else:
                        raise self._reject("allowed comparisons are == != < <= > >=, and a single `in` with a tuple")
                return False, 1
            case ast.Call(func=ast.Name(id="min" | "max"), args=arguments, keywords=[]) if len(arguments) > 1:
                return False, max(self._numbers(arguments))
            case _:
                raise self._reject(
                    f"{ast.unparse(node)[:80]!r} is not allowed; use names, numbers, text, + - * // %, comparisons, "
                    "and or not, a if c else b, min(a, b), max(a, b)"
                )


def _truth(value: Column) -> NDArray[np.bool_]:
    if value.dtype == np.bool_:
        return value
    return np.asarray(value != ("" if value.dtype.kind == "U" else 0), dtype=np.bool_)


class _Evaluator:
    """Evaluates a checked tree to (value, rows on which Python would have divided by zero)."""

    def __init__(self, columns: Mapping[str, Column], exact: bool) -> None:
        self._columns = columns
        self._exact = exact

    def _number(self, value: Column) -> Column:
        """As an operand of arithmetic: Python integers if sums may leave int64, truth values as 0 and 1."""
        if self._exact:
            return value.astype(object)
        return value.astype(np.int64) if value.dtype == np.bool_ else value

    def evaluate(self, node: ast.expr) -> tuple[Column, NDArray[np.bool_]]:
        match node:
            case ast.Constant(value=str() | int() | float() as constant):
                return column([constant]), np.zeros(1, np.bool_)
            case ast.Name(id=name):
                return self._columns[name], np.zeros(1, np.bool_)
            case ast.BinOp(left=left, op=op, right=right):
                (a, error), (b, other) = self.evaluate(left), self.evaluate(right)
                a, b, error = self._number(a), self._number(b), error | other
                if isinstance(op, ast.FloorDiv | ast.Mod):
                    zero = ~_truth(b)
                    b, error = np.where(zero, 1, b), error | zero
                return np.asarray(_ARITHMETIC[type(op)](a, b)), error
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                value, error = self.evaluate(operand)
                return ~_truth(value), error
            case ast.UnaryOp(op=op, operand=operand):
                value, error = self.evaluate(operand)
                value = self._number(value)
                return (np.negative(value) if isinstance(op, ast.USub) else value), error
            case ast.BoolOp(op=op, values=operands):
                value, error = self.evaluate(operands[0])
                for operand in operands[1:]:
                    following, other = self.evaluate(operand)
                    goes_on = _truth(value) if isinstance(op, ast.And) else ~_truth(value)
                    value, error = np.where(goes_on, following, value), error | (goes_on & other)
                return value, error
            case ast.IfExp(test=test, body=body, orelse=orelse):
                condition, error = self.evaluate(test)
                (a, error_a), (b, error_b) = self.evaluate(body), self.evaluate(orelse)
                chosen = _truth(condition)
                return np.where(chosen, a, b), error | np.where(chosen, error_a, error_b)
            case ast.Compare(left=first, ops=[ast.In() | ast.NotIn() as op], comparators=[ast.Tuple(elts=elements)]):
                value, error = self.evaluate(first)
                found = np.zeros(value.shape, np.bool_)
                for element in elements:
                    b, other = self.evaluate(element)
                    found, error = found | np.asarray(value == b, np.bool_), error | other
                return (found if isinstance(op, ast.In) else ~found), error
            case ast.Compare(left=first, ops=ops, comparators=comparators):
                a, error = self.evaluate(first)
                result = np.ones(1, np.bool_)
                for comparison, comparator in zip(ops, comparators, strict=True):
                    b, other = self.evaluate(comparator)
                    error = error | (result & other)
                    result = result & np.asarray(_COMPARISONS[type(comparison)](a, b), np.bool_)
                    a = b
                return result, error
            case ast.Call(func=ast.Name(id=function), args=arguments):
                value, error = self.evaluate(arguments[0])
                for argument in arguments[1:]:
                    b, other = self.evaluate(argument)
                    better = b < value if function == "min" else b > value
                    value, error = np.where(np.asarray(better, np.bool_), b, value), error | other
                return value, error
        raise AssertionError(f"unchecked node {ast.dump(node)}")
