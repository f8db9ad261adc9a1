"""Loops over the vectors of a row, or of a block of rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from tvm.tirx.script.builder import ir as T

from fettle.backends.cpu.rows.streaming import end_streaming, stream, until_aligned
from fettle.backends.cpu.rows.vectors import Vectors

Body = Callable[[Any, int, Any], Any]
"""``body(offset, slot, mask)`` emits what happens to the vector at ``offset``; ``mask`` is None for a whole one."""


def sweep(v: Vectors, count: Any, unroll: int, body: Body, start: Any = 0) -> None:
    """Call ``body(offset, slot, mask)`` for the vectors that cover ``count`` elements from ``start``.

    ``slot`` tells the ``unroll`` vectors of one loop step apart; the last vector comes with a mask unless it
    is known to be whole. ``count`` may be a number or an expression.
    """
    if isinstance(count, int):
        _sweep_known(v, count, unroll, body, start)
    else:
        _sweep_unknown(v, count, unroll, body, start)


def _sweep_known(v: Vectors, count: int, unroll: int, body: Body, start: Any) -> None:
    whole, rest = divmod(count, v.lanes)
    steps, extra = divmod(whole, unroll)
    if steps:
        _unrolled(v, T.int64(steps), unroll, body, start)
    for slot in range(extra):
        body(start + T.int64((steps * unroll + slot) * v.lanes), slot, None)
    if rest:
        body(start + T.int64(whole * v.lanes), extra, v.first(rest))


def _sweep_unknown(v: Vectors, count: Any, unroll: int, body: Body, start: Any) -> None:
    whole = v.let(T.floordiv(count, T.int64(v.lanes)))
    steps = v.let(T.floordiv(whole, T.int64(unroll)))
    _unrolled(v, steps, unroll, body, start)
    if unroll > 1:
        with T.serial(T.int64(0), whole - steps * unroll) as extra:
            body(start + (steps * unroll + extra) * v.lanes, 0, None)
    rest = v.let(count - whole * v.lanes)
    with T.If(rest > 0), T.Then():
        body(start + whole * v.lanes, 0, v.first(rest))


def _unrolled(v: Vectors, steps: Any, unroll: int, body: Body, start: Any) -> None:
    with T.serial(T.int64(0), steps) as step:
        for slot in range(unroll):
            body(start + step * (unroll * v.lanes) + slot * v.lanes, slot, None)


def in_chunks(v: Vectors, count: Any, chunk: int, body: Callable[[Any, Any], None], start: Any = 0) -> None:
    """Call ``body(start, count)`` for pieces of ``chunk`` elements, and once more for the rest."""
    if isinstance(count, int):
        whole, rest = divmod(count, chunk)
        if whole:
            with T.serial(T.int64(0), T.int64(whole)) as index:
                body(v.let(start + index * chunk), chunk)
        if rest:
            body(start + T.int64(whole * chunk), rest)
        return
    pieces, left = v.let(T.floordiv(count, T.int64(chunk))), v.let(T.floormod(count, T.int64(chunk)))
    with T.serial(T.int64(0), pieces) as index:
        body(v.let(start + index * chunk), chunk)
    with T.If(left > 0), T.Then():
        body(v.let(start + pieces * chunk), left)


def for_each_row(block: int, body: Callable[[int, Any, int, Any], None]) -> Body:
    """A body for :func:`sweep` that visits the same columns of every row of a block."""

    def rows(offset: Any, slot: int, mask: Any) -> None:
        for row in range(block):
            body(row, offset, slot, mask)

    return rows


def write_rows(
    v: Vectors,
    y: Any,
    first: Any,
    block: int,
    value: Callable[[int, Any, Any], Any],
    *,
    unroll: int,
    streams: bool,
    start: Any = 0,
    count: Any = None,
) -> None:
    """y[first + row, offset] = value(row, offset, mask) for a block of rows.

    Args:
        first, block: the first row, and how many.
        streams: past the caches.
        start, count: the first column, and how many; all by default.
    """
    cols = int(y.shape[1])
    count = cols if count is None else count

    def put(row: int, offset: Any, slot: int, mask: Any) -> None:
        store_result(v, y, first + row, offset, value(row, offset, mask), mask, streams=streams)

    if not streams:
        sweep(v, count, unroll, for_each_row(block, put), start)
        return
    for row in range(block):
        sweep_aligned(v, y, first + row, count, unroll, partial(put, row), start)
    end_streaming()


def store_result(v: Vectors, y: Any, row: Any, offset: Any, value: Any, mask: Any, *, streams: bool) -> None:
    """y[row, offset] = value, past the caches if ``streams`` and the vector is whole (see :func:`sweep_aligned`)."""
    if streams and mask is None:
        stream(y, row * int(y.shape[1]) + offset, value)
    else:
        v.store(y, [row, offset], value, mask)


def sweep_aligned(v: Vectors, y: Any, row: Any, count: Any, unroll: int, body: Body, start: Any = 0) -> None:
    """:func:`sweep` such that whole vectors are aligned in a row of y: what precedes them comes first, with a mask."""
    head = until_aligned(v, y, row * int(y.shape[1]) + start, count)
    with T.If(head > 0), T.Then():
        body(T.int64(start) if isinstance(start, int) else start, 0, v.first(head))
    sweep(v, v.let(count - head), unroll, body, v.let(start + head))
