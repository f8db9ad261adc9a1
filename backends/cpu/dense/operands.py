"""Copies a kernel makes of its operands: x tiles row after row, a dynamic right-hand side in panels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tvm.tirx.script.builder import ir as T

from fettle.backends.cpu.dense.geometry import Geometry
from fettle.backends.cpu.gemv.formats import Floats


def parallel_or_serial(extent: int, threads: int) -> Any:
    """A loop over independent tasks."""
    return T.parallel(0, extent) if threads > 1 and extent > 1 else T.serial(0, extent)


def first_column(g: Geometry, panel: Any) -> Any:
    """Column of y at which a panel begins."""
    column = panel * g.micro_n
    return T.min(column, g.n - g.micro_n) if g.rhs == "direct" and g.n % g.micro_n else column


def full_or_rest(index: Any, full: int, rest: int, on_full: Callable[[], None], on_rest: Callable[[], None]) -> None:
    """Emit ``on_full`` for indices below ``full``, ``on_rest`` for the one after; beyond it nothing."""
    if full:
        with T.If(index < full), T.Then():
            on_full()
    if rest:
        with T.If(index == full), T.Then():
            on_rest()


def copy_x(g: Geometry, x: Any, copy: Any, b: Any, m0: Any, k0: Any, length: Any) -> None:
    """Rows of x from ``m0``, steps of k from ``k0``; an odd last element is paired with zero."""
    floats = Floats(g.act)
    with T.serial(0, T.min(g.tile_m * g.micro_m, g.m - m0)) as i:
        if g.has_tiles:
            _copy_whole_tiles(g, x, copy, b, m0, k0, length, i)
            return

        def steps(k: Any, count: int) -> None:
            if g.pairs == 1:
                value = floats.read(x, g.at(b, m0 + i, k0 + k), count)
            else:
                elements = x[g.at(b, m0 + i, T.ramp(2 * (k0 + k), 1, 2 * count))]
                value = T.reinterpret("int32" if count == 1 else f"int32x{count}", elements)
            T.buffer_store(copy, value, [i, T.ramp(k, 1, count) if count > 1 else k])

        # vectors written out: LLVM unrolls short loops over rows, and takes long to vectorise what is in each copy
        paired = length if g.k % g.pairs == 0 else T.min(length, g.k // 2 - k0)
        whole = paired // g.lanes
        with T.serial(0, whole) as vector:
            steps(vector * g.lanes, g.lanes)
        with T.serial(0, paired - whole * g.lanes) as left:
            steps(whole * g.lanes + left, 1)
        if g.k % g.pairs == 0:
            return
        with T.If(k0 + length == g.steps), T.Then():
            T.buffer_store(copy, _raw(x[g.at(b, m0 + i, g.k - 1)]), [i, g.steps - 1 - k0])


def _copy_whole_tiles(g: Geometry, x: Any, copy: Any, b: Any, m0: Any, k0: Any, length: Any, i: Any) -> None:
    """Row ``i`` of x from step ``k0``, zeros beyond K."""
    depth = g.depth
    full, rest = divmod(g.k, 2 * depth)

    def copy_tile(tile: Any) -> None:
        columns = T.ramp(2 * (k0 + tile * depth), 1, 2 * depth)
        value = T.reinterpret(f"{g.copied}x{depth}", x[g.at(b, m0 + i, columns)])
        T.buffer_store(copy, value, [i, T.ramp(tile * depth, 1, depth)])

    def copy_rest(tile: Any) -> None:
        T.buffer_store(copy, T.broadcast(T.float32(0), depth), [i, T.ramp(tile * depth, 1, depth)])
        first = 2 * (k0 + tile * depth)
        with T.serial(0, rest // 2) as pair:
            low = _raw(x[g.at(b, m0 + i, first + 2 * pair)])
            high = _raw(x[g.at(b, m0 + i, first + 2 * pair + 1)])
            T.buffer_store(copy, _bits(g, T.bitwise_or(low, T.shift_left(high, 16))), [i, tile * depth + pair])
        if rest % 2:
            T.buffer_store(copy, _bits(g, _raw(x[g.at(b, m0 + i, g.k - 1)])), [i, tile * depth + rest // 2])

    with T.serial(0, length // depth) as tile:
        full_or_rest(k0 // depth + tile, full, rest, lambda: copy_tile(tile), lambda: copy_rest(tile))


def pack_panels(g: Geometry, rhs: Any, panels: Any) -> None:
    """Copy ``rhs[b, k, n]`` into panels ``[b, n // micro_n, step, n % micro_n]``, zeros beyond N and K."""
    with parallel_or_serial(g.batch * g.panels, g.threads) as task:
        b, panel = task // g.panels, task % g.panels
        _each_step(g, 0, g.steps, lambda step, kind: _pack_step(g, rhs, panels, (b, panel), b, panel, 0, step, kind))


def pack_block(g: Geometry, rhs: Any, block: Any, b: Any, panel0: Any, k0: Any, length: Any) -> None:
    """Copy a task's panels over ``length`` steps from ``k0`` into ``block[panel - panel0, step, n % micro_n]``.

    Row by row of ``rhs``, so that it is read in long runs.
    """

    def row(step: Any, kind: str) -> None:
        with T.serial(0, g.tile_n) as j, T.If(panel0 + j < g.panels), T.Then():
            _pack_step(g, rhs, block, (j,), b, panel0 + j, k0, step, kind)

    _each_step(g, k0, length, row)


def _each_step(g: Geometry, k0: Any, length: Any, emit: Callable[[Any, str], None]) -> None:
    """Emit each of ``length`` steps from ``k0``: ``whole`` ones, an ``odd`` last element of K, ``zeros`` beyond it."""
    whole, filled = g.k // g.pairs, math.ceil(g.k / g.pairs)
    with T.serial(0, length if whole == g.steps else T.min(length, whole - k0)) as step:
        emit(step, "whole")
    if filled > whole:
        with T.If(k0 + length > whole), T.Then():
            emit(whole - k0, "odd")
    if g.steps > filled:
        with T.serial(T.min(length, filled - k0), length) as step:
            emit(step, "zeros")


def _pack_step(
    g: Geometry, rhs: Any, panels: Any, place: tuple[Any, ...], b: Any, panel: Any, k0: Any, step: Any, kind: str
) -> None:
    """One row of a panel: step ``k0 + step`` of K to ``panels[*place, step, :]``."""
    zeros = T.broadcast(getattr(T, g.copied)(0), g.lanes)

    def columns(count: int) -> None:
        whole = count // g.lanes * g.lanes if kind != "zeros" else 0
        for v in range(0, g.micro_n, g.lanes):
            value = zeros
            if v < whole:
                elements = _elements(g, rhs, b, k0 + step, panel * g.micro_n + v, g.lanes, kind == "odd")
                value = _bits(g, elements, g.lanes)
            T.buffer_store(panels, value, [*place, step, T.ramp(v, 1, g.lanes)])
        if kind != "zeros" and count > whole:
            with T.serial(0, count - whole) as v:
                element = _elements(g, rhs, b, k0 + step, panel * g.micro_n + whole + v, 1, kind == "odd")
                T.buffer_store(panels, _bits(g, element), [*place, step, whole + v])

    full, rest = divmod(g.n, g.micro_n)
    full_or_rest(panel, full, rest, lambda: columns(g.micro_n), lambda: columns(rest))


def _elements(g: Geometry, rhs: Any, b: Any, step: Any, column: Any, lanes: int, odd: bool) -> Any:
    """Neighbouring columns of one step of k."""
    if g.pairs == 1:
        return Floats(g.right).read(rhs, g.at(b, step, column), lanes)
    columns = T.ramp(column, 1, lanes) if lanes > 1 else column
    low = _raw(rhs[g.at(b, 2 * step, columns)], lanes)
    if odd:
        return low
    high = _raw(rhs[g.at(b, 2 * step + 1, columns)], lanes)
    sixteen = T.broadcast(T.int32(16), lanes) if lanes > 1 else T.int32(16)
    return T.bitwise_or(low, T.shift_left(high, sixteen))


def _bits(g: Geometry, value: Any, lanes: int = 1) -> Any:
    """Elements as copies hold them."""
    return T.reinterpret(f"{g.copied}x{lanes}" if lanes > 1 else g.copied, value)


def _raw(value: Any, lanes: int = 1) -> Any:
    """The bits of bfloat16 values in the lower halves of int32."""
    suffix = f"x{lanes}" if lanes > 1 else ""
    return T.Cast(f"int32{suffix}", T.reinterpret(f"uint16{suffix}", value))
