"""The packed matrix product as TensorIR: a register tile of ``micro_m × micro_n`` inside cache tiles.

Weights are read from panels ``W[b, n // micro_n, k, n % micro_n]``, padded with zeros to whole panels, so that
the innermost loop streams one panel from front to back::

    for task (m tile × n tile)              one of tasks, split over threads
      for k block of tile_k
        [copy of the x tile, rows one after the other]
        for panel, for micro row            or the other way round: ``inner``
          acc[micro_m, micro_n] in registers
          for k: acc[i, :] += x[i, k] · W[k, :]

Edges need no padding of x or y: M and N are known, so the last micro row is a smaller register tile of its
own, and the last panel stores only the columns that exist.
"""

from __future__ import annotations

import math
from typing import Any

import attrs

from fettle.backends.api import Device, Schedule
from fettle.backends.cpu import device as cpu
from fettle.graph.workload import Workload

_ROW_PADDING = 16
"""Floats between the rows of a copied x tile: powers of two would collide in the L1 cache."""


@attrs.frozen
class Geometry:
    """Extents of one kernel, all in elements unless a name says otherwise."""

    batch: int
    m: int
    n: int
    k: int
    micro_m: int
    micro_n: int
    lanes: int
    tile_m: int
    tile_n: int
    tile_k: int
    unroll_k: int
    threads: int
    prefetch: int
    rows_outside: bool
    rows_inside: bool
    copies_x: bool
    rhs: str

    @classmethod
    def of(cls, workload: Workload, schedule: Schedule, device: Device) -> Geometry:
        """Read workload and schedule; tiles are cut to the problem's size."""
        values = workload.values
        micro_m, micro_n = schedule["micro_m"], schedule["micro_n"]
        return cls(
            batch=values["batch"],
            m=values["m"],
            n=values["n"],
            k=values["k"],
            micro_m=micro_m,
            micro_n=micro_n,
            lanes=cpu.vector_bits(device) // 32,
            tile_m=min(schedule["tile_m"], math.ceil(values["m"] / micro_m)),
            tile_n=min(schedule["tile_n"], math.ceil(values["n"] / micro_n)),
            tile_k=min(schedule["tile_k"], values["k"]),
            unroll_k=schedule["unroll_k"],
            threads=schedule["threads"],
            prefetch=schedule["prefetch"],
            rows_outside=schedule["order"] == "rows",
            rows_inside=schedule["inner"] == "rows",
            copies_x=schedule["copy_x"],
            rhs=schedule.get("rhs", "constant"),
        )

    @property
    def micro_rows(self) -> int:
        """Micro rows, the last possibly short."""
        return math.ceil(self.m / self.micro_m)

    @property
    def panels(self) -> int:
        """Panels of W, the last possibly padded."""
        return math.ceil(self.n / self.micro_n)

    @property
    def m_tiles(self) -> int:
        return math.ceil(self.micro_rows / self.tile_m)

    @property
    def n_tiles(self) -> int:
        return math.ceil(self.panels / self.tile_n)

    @property
    def k_blocks(self) -> int:
        return math.ceil(self.k / self.tile_k)

    @property
    def tasks(self) -> int:
        """Independent pieces of work."""
        return self.batch * self.m_tiles * self.n_tiles

    @property
    def vectors(self) -> int:
        """Vector registers in a row of the register tile."""
        return self.micro_n // self.lanes


def emit(g: Geometry) -> Any:
    """The ``PrimFunc`` of a geometry, parameters (x, W, y)."""
    from tvm.script.ir_builder import IRBuilder
    from tvm.tirx.script.builder import ir as T

    lead = () if g.batch == 1 else (g.batch,)
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("dense")
        T.func_attr({"tirx.noalias": True})
        x = T.arg("x", T.buffer((*lead, g.m, g.k), "float32", align=4))
        if g.rhs == "constant":
            w = T.arg("w", T.buffer((g.batch, g.panels, g.k, g.micro_n), "float32", align=4))
        else:
            rhs = w = T.arg("rhs", T.buffer((*lead, g.k, g.n), "float32", align=4))
        y = T.arg("y", T.buffer((*lead, g.m, g.n), "float32", align=4))
        if g.rhs == "packed":
            w = T.alloc_buffer((g.batch, g.panels, g.k, g.micro_n), "float32", align=64)
            _Emitter(T, g, x, rhs, y).pack_panels(w)
        _Emitter(T, g, x, w, y).tasks()
    return builder.get()


class _Emitter:
    """Writes the loops of one kernel into the IR builder that is open."""

    def __init__(self, T: Any, g: Geometry, x: Any, w: Any, y: Any) -> None:
        self.T, self.g, self.x, self.w, self.y = T, g, x, w, y

    def _lanes(self, start: Any) -> Any:
        return self.T.ramp(start, 1, self.g.lanes)

    def _at(self, b: Any, *indices: Any) -> tuple[Any, ...]:
        """Index of x, y or an unpacked rhs, which have a batch dimension only if there is a batch."""
        return indices if self.g.batch == 1 else (b, *indices)

    def _zero(self) -> Any:
        return self.T.broadcast(self.T.float32(0), self.g.lanes)

    def _for(self, extent: int, parallel: bool) -> Any:
        return self.T.parallel(0, extent) if parallel and extent > 1 else self.T.serial(0, extent)

    # -- phase 1 of a dynamic right-hand side

    def pack_panels(self, panels: Any) -> None:
        """Copy ``rhs[b, k, n]`` into panels."""
        T, g = self.T, self.g
        full, rest = divmod(g.n, g.micro_n)
        with self._for(g.batch * g.panels, g.threads > 1) as task:
            b, panel = task // g.panels, task % g.panels
            with T.serial(0, g.k) as k:

                def copy(count: int) -> None:
                    for v in range(0, g.micro_n, g.lanes):
                        if v + g.lanes <= count:
                            value = self.w[self._at(b, k, self._lanes(panel * g.micro_n + v))]
                        else:
                            value = self._zero()
                        T.buffer_store(panels, value, [b, panel, k, self._lanes(v)])
                    for v in range(count // g.lanes * g.lanes, count):
                        T.buffer_store(panels, self.w[self._at(b, k, panel * g.micro_n + v)], [b, panel, k, v])

                self._full_or_rest(panel, full, rest, lambda: copy(g.micro_n), lambda: copy(rest))

    # -- the product

    def tasks(self) -> None:
        """The outer loops."""
        T, g = self.T, self.g
        with self._for(g.tasks, g.threads > 1) as task:
            b, tile = task // (g.m_tiles * g.n_tiles), task % (g.m_tiles * g.n_tiles)
            if g.rows_outside:
                row0, panel0 = tile // g.n_tiles * g.tile_m, tile % g.n_tiles * g.tile_n
            else:
                row0, panel0 = tile % g.m_tiles * g.tile_m, tile // g.m_tiles * g.tile_n
            copy = T.alloc_buffer((g.tile_m * g.micro_m, g.tile_k + _ROW_PADDING), "float32") if g.copies_x else None
            acc = T.alloc_buffer((g.micro_m, g.micro_n), "float32", scope="local", align=64)
            with T.serial(0, g.k_blocks) as block:
                k0 = block * g.tile_k
                length = g.tile_k if g.k % g.tile_k == 0 else T.min(g.tile_k, g.k - k0)
                if copy is not None:
                    self._copy_x(copy, b, row0 * g.micro_m, k0, length)
                rows, panels = T.serial(0, g.tile_m), T.serial(0, g.tile_n)
                outer, inner = (panels, rows) if g.rows_inside else (rows, panels)
                with outer as first, inner as second:
                    i, j = (second, first) if g.rows_inside else (first, second)
                    self._micro_tile(acc, copy, b, row0, i, panel0 + j, block, k0, length)

    def _copy_x(self, copy: Any, b: Any, m0: Any, k0: Any, length: Any) -> None:
        T, g = self.T, self.g
        with T.serial(0, g.tile_m * g.micro_m) as i, T.If(m0 + i < g.m), T.Then(), T.serial(0, length) as k:
            T.buffer_store(copy, self.x[self._at(b, m0 + i, k0 + k)], [i, k])

    def _micro_tile(
        self, acc: Any, copy: Any, b: Any, row0: Any, i: Any, panel: Any, block: Any, k0: Any, length: Any
    ) -> None:
        T, g = self.T, self.g
        row = row0 + i
        full, rest = divmod(g.m, g.micro_m)

        def tile(count: int) -> None:
            self._load(acc, b, row, panel, block, count)
            self._accumulate(acc, copy, b, row, i, panel, k0, length, count)
            self._each_vector(acc, b, row, panel, count, self._store_one)

        def rows() -> None:
            self._full_or_rest(row, full, rest, lambda: tile(g.micro_m), lambda: tile(rest))

        if g.panels % g.tile_n == 0:
            rows()
        else:
            with T.If(panel < g.panels), T.Then():
                rows()

    def _full_or_rest(self, index: Any, full: int, rest: int, on_full: Any, on_rest: Any) -> None:
        """Emit ``on_full`` for indices below ``full``, ``on_rest`` for the one after; beyond it nothing."""
        T = self.T
        if full:
            with T.If(index < full), T.Then():
                on_full()
        if rest:
            with T.If(index == full), T.Then():
                on_rest()

    def _load(self, acc: Any, b: Any, row: Any, panel: Any, block: Any, count: int) -> None:
        """acc = 0 in the first block of k, else what y has so far."""
        T, g = self.T, self.g

        def clear() -> None:
            for i in range(count):
                for v in range(g.vectors):
                    T.buffer_store(acc, self._zero(), [i, self._lanes(v * g.lanes)])

        if g.k_blocks == 1:
            clear()
            return
        with T.If(block == 0):
            with T.Then():
                clear()
            with T.Else():
                if g.n % g.micro_n:
                    clear()
                self._each_vector(acc, b, row, panel, count, self._load_one)

    def _each_vector(self, acc: Any, b: Any, row: Any, panel: Any, count: int, move: Any) -> None:
        """Apply ``move`` to the part of y a register tile stands for: vectors, then single lanes at the edge."""
        g = self.g
        full, rest = divmod(g.n, g.micro_n)

        def columns(width: int) -> None:
            whole = width // g.lanes * g.lanes
            m0, n0 = row * g.micro_m, panel * g.micro_n
            for i in range(count):
                for v in range(0, whole, g.lanes):
                    move(acc, [i, self._lanes(v)], self._at(b, m0 + i, self._lanes(n0 + v)))
                for v in range(whole, width):
                    move(acc, [i, v], self._at(b, m0 + i, n0 + v))

        self._full_or_rest(panel, full, rest, lambda: columns(g.micro_n), lambda: columns(rest))

    def _load_one(self, acc: Any, tile: Any, where: Any) -> None:
        self.T.buffer_store(acc, self.y[where], tile)

    def _store_one(self, acc: Any, tile: Any, where: Any) -> None:
        self.T.buffer_store(self.y, acc[tuple(tile)], list(where))

    def _accumulate(
        self, acc: Any, copy: Any, b: Any, row: Any, i: Any, panel: Any, k0: Any, length: Any, count: int
    ) -> None:
        """acc += x · W over one block of k."""
        T, g = self.T, self.g

        def step(k: Any) -> None:
            if g.prefetch:
                for v in range(0, g.micro_n, 16):
                    ahead = T.address_of(self._w(b, k0 + k + g.prefetch, panel, v))
                    T.evaluate(T.call_intrin("void", "tirx.prefetch", ahead, 0, 3, 1))
            for r in range(count):
                m = row * g.micro_m + r
                value = self.x[self._at(b, m, k0 + k)] if copy is None else copy[i * g.micro_m + r, k]
                for v in range(g.vectors):
                    at = [r, self._lanes(v * g.lanes)]
                    weights = self._w(b, k0 + k, panel, self._lanes(v * g.lanes))
                    T.buffer_store(acc, acc[tuple(at)] + T.broadcast(value, g.lanes) * weights, at)

        whole = length // g.unroll_k
        with T.serial(0, whole) as outer:
            for u in range(g.unroll_k):
                step(outer * g.unroll_k + u)
        if g.tile_k % g.unroll_k or g.k % g.unroll_k:
            with T.serial(0, length - whole * g.unroll_k) as left:
                step(whole * g.unroll_k + left)

    def _w(self, b: Any, k: Any, panel: Any, column: Any) -> Any:
        if self.g.rhs != "direct":
            return self.w[b, panel, k, column]
        return self.w[self._at(b, k, panel * self.g.micro_n + column)]
