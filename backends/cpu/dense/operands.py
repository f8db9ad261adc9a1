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
    with T.serial(0, g.tile_m * g.micro_m) as i, T.If(m0 + i < g.m), T.Then():
        if g.pairs == 1:
            with T.serial(0, length) as k:
                T.buffer_store(copy, floats.read(x, g.at(b, m0 + i, k0 + k), 1), [i, k])
            return

        def pair(k: Any) -> None:
            low = _raw(x[g.at(b, m0 + i, 2 * (k0 + k))])
            high = _raw(x[g.at(b, m0 + i, 2 * (k0 + k) + 1)])
            T.buffer_store(copy, T.bitwise_or(low, T.shift_left(high, 16)), [i, k])

        if g.has_tiles:
            _copy_whole_tiles(g, x, copy, b, m0, k0, length, i)
            return
        if g.k % 2 == 0:
            with T.serial(0, length) as k:
                pair(k)
            return
        with T.serial(0, T.min(length, g.k // 2 - k0)) as k:
            pair(k)
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
    full, rest = divmod(g.n, g.micro_n)
    with parallel_or_serial(g.batch * g.panels, g.threads) as task:
        b, panel = task // g.panels, task % g.panels

        def copy(step: Any, count: int, odd: bool) -> None:
            whole = count // g.lanes * g.lanes
            for v in range(0, g.micro_n, g.lanes):
                if v < whole:
                    value = _bits(g, _elements(g, rhs, b, step, panel * g.micro_n + v, g.lanes, odd), g.lanes)
                else:
                    value = T.broadcast(getattr(T, g.copied)(0), g.lanes)
                T.buffer_store(panels, value, [b, panel, step, T.ramp(v, 1, g.lanes)])
            with T.serial(0, count - whole) as v:
                value = _bits(g, _elements(g, rhs, b, step, panel * g.micro_n + whole + v, 1, odd))
                T.buffer_store(panels, value, [b, panel, step, whole + v])

        def rows(step: Any, odd: bool) -> None:
            full_or_rest(panel, full, rest, lambda: copy(step, g.micro_n, odd), lambda: copy(step, rest, odd))

        with T.serial(0, g.k // g.pairs) as step:
            rows(step, False)
        if g.k % g.pairs:
            rows(g.k // g.pairs, True)
        filled = math.ceil(g.k / g.pairs)
        if filled < g.steps:
            zeros = T.broadcast(getattr(T, g.copied)(0), g.lanes)
            with T.serial(filled, g.steps) as step:
                for v in range(0, g.micro_n, g.lanes):
                    T.buffer_store(panels, zeros, [b, panel, step, T.ramp(v, 1, g.lanes)])


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
