"""Orders for shuffles: which element of the operands each element of the result is.

The elements of two operands of ``n`` elements are numbered through: ``n + i`` is element i of the second.
"""

from __future__ import annotations

from collections.abc import Iterable


def alternating(start: int, count: int, n: int) -> list[int]:
    """Elements ``start`` … ``start + count - 1`` of two operands, in turn: of the first, of the second, …"""
    return [start + i + side for i in range(count) for side in (0, n)]


def every_other(first: int, n: int) -> list[int]:
    """The even (``first`` = 0) or the odd (1) elements of two operands, as one vector."""
    return list(range(first, 2 * n, 2))


def repeated(pattern: Iterable[int], step: int, n: int) -> list[int]:
    """A pattern within the first ``step`` elements, and the same in all that follow: an order of x86's instructions,
    which shuffle every 128 bits alike."""
    pattern = tuple(pattern)
    return [base + element for base in range(0, n, step) for element in pattern]
