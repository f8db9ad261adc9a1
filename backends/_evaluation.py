"""Evaluates checked constraint expressions in NumPy over whole columns of schedules.

The result is what Python itself would answer row by row: integers of any size are exact, ``and``, ``or``,
``if`` and chained comparisons skip what Python would skip, and a row on which Python would divide by zero
does not satisfy the constraint.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fettle.backends.api import Value

Column = NDArray[Any]

EXACT = 2**53
"""Up to here int64 cannot overflow in one operation's result and float64 holds every integer."""

COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
}
ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.FloorDiv: np.floor_divide,
    ast.Mod: np.mod,
}


def column(values: Sequence[Value]) -> Column:
    """Values of one type as an array that computes like Python: integers beyond 2^53 stay Python integers."""
    kind = type(values[0])
    if kind is int and max(abs(int(v)) for v in values) > EXACT:
        return np.array(values, dtype=object)
    return np.array(values, dtype={bool: np.bool_, int: np.int64, float: np.float64, str: np.str_}[kind])


def truth(value: Column) -> NDArray[np.bool_]:
    """Which rows Python would take for true."""
    if value.dtype == np.bool_:
        return value
    return np.asarray(value != ("" if value.dtype.kind == "U" else 0), dtype=np.bool_)


Evaluated = tuple[Column, NDArray[np.bool_]]
"""Values, and the rows on which Python would have divided by zero. Either may be one row that stands for all."""


class Evaluator:
    """Evaluates trees over columns.

    Args:
        exact: sums may leave int64, so compute with Python's integers.
    """

    def __init__(self, columns: Mapping[str, Column], exact: bool) -> None:
        self._columns = columns
        self._exact = exact

    def evaluate(self, node: ast.expr) -> Evaluated:
        """The value of a tree that was checked."""
        match node:
            case ast.Constant(value=str() | int() | float() as constant):
                return column([constant]), np.zeros(1, np.bool_)
            case ast.Name(id=name):
                return self._columns[name], np.zeros(1, np.bool_)
            case ast.BinOp():
                return self._arithmetic(node)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                value, error = self.evaluate(operand)
                return ~truth(value), error
            case ast.UnaryOp(op=op, operand=operand):
                value, error = self.evaluate(operand)
                value = self._number(value)
                return (np.negative(value) if isinstance(op, ast.USub) else value), error
            case ast.BoolOp():
                return self._logic(node)
            case ast.IfExp():
                return self._choice(node)
            case ast.Compare(left=left, ops=[ast.In() | ast.NotIn() as op], comparators=[ast.Tuple(elts=elements)]):
                found, error = self._membership(left, elements)
                return (found if isinstance(op, ast.In) else ~found), error
            case ast.Compare():
                return self._comparison(node)
            case ast.Call(func=ast.Name(id=function), args=arguments):
                return self._extreme(function, arguments)
        raise AssertionError(f"unchecked node {ast.dump(node)}")

    def _number(self, value: Column) -> Column:
        """As an operand of arithmetic: Python integers if sums may leave int64, truth values as 0 and 1."""
        if self._exact:
            return value.astype(object)
        return value.astype(np.int64) if value.dtype == np.bool_ else value

    def _arithmetic(self, node: ast.BinOp) -> Evaluated:
        (a, error), (b, other) = self.evaluate(node.left), self.evaluate(node.right)
        a, b, error = self._number(a), self._number(b), error | other
        if isinstance(node.op, ast.FloorDiv | ast.Mod):
            zero = ~truth(b)
            b, error = np.where(zero, 1, b), error | zero
        return np.asarray(ARITHMETIC[type(node.op)](a, b)), error

    def _logic(self, node: ast.BoolOp) -> Evaluated:
        """``and`` and ``or`` give the operand that decides, and do not look at those after it."""
        value, error = self.evaluate(node.values[0])
        for operand in node.values[1:]:
            following, other = self.evaluate(operand)
            goes_on = truth(value) if isinstance(node.op, ast.And) else ~truth(value)
            value, error = np.where(goes_on, following, value), error | (goes_on & other)
        return value, error

    def _choice(self, node: ast.IfExp) -> Evaluated:
        condition, error = self.evaluate(node.test)
        (a, error_a), (b, error_b) = self.evaluate(node.body), self.evaluate(node.orelse)
        chosen = truth(condition)
        return np.where(chosen, a, b), error | np.where(chosen, error_a, error_b)

    def _membership(self, left: ast.expr, elements: Sequence[ast.expr]) -> Evaluated:
        """``in`` a tuple, all of which Python evaluates first."""
        value, error = self.evaluate(left)
        found = np.zeros(value.shape, np.bool_)
        for element in elements:
            b, other = self.evaluate(element)
            found, error = found | np.asarray(value == b, np.bool_), error | other
        return found, error

    def _comparison(self, node: ast.Compare) -> Evaluated:
        """A chain ends at the first comparison that fails."""
        a, error = self.evaluate(node.left)
        result = np.ones(1, np.bool_)
        for comparison, comparator in zip(node.ops, node.comparators, strict=True):
            b, other = self.evaluate(comparator)
            error = error | (result & other)
            result = result & np.asarray(COMPARISONS[type(comparison)](a, b), np.bool_)
            a = b
        return result, error

    def _extreme(self, function: str, arguments: Sequence[ast.expr]) -> Evaluated:
        """``min`` and ``max``: the first of equals, as Python's."""
        value, error = self.evaluate(arguments[0])
        for argument in arguments[1:]:
            b, other = self.evaluate(argument)
            better = b < value if function == "min" else b > value
            value, error = np.where(np.asarray(better, np.bool_), b, value), error | other
        return value, error
