"""The kernel: panels of W over threads, bands of x, groups and slabs of K, register tiles of rows by vectors.

``y[m, n] = Σ_g scale[n, g] · factor[m, g] · S[m, n, g]`` with ``S = Σ_k q[m, k]·(code[n, k] - z[n, g])``, exact in
int32 (``vpdpbusd``). Codes of a slab are decoded once per band and reused by all its rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from tvm.script.ir_builder import IRBuilder

from fettle.backends.cpu.gemm.activations import Activations
from fettle.backends.cpu.gemm.decode import BYTES, step_chunks
from fettle.backends.cpu.gemm.plan import LANES, GemmPlan
from fettle.backends.cpu.gemv.formats import Floats
from fettle.backends.cpu.gemv.integer import dot
from fettle.backends.cpu.gemv.words import (
    Buffer,
    Expr,
    T,
    constant,
    load,
    loop,
    parallel,
    prefetch,
    read,
    splat,
    store,
)


def kernel(plan: GemmPlan) -> Any:
    """The TensorIR function ``(x, codes, scales[, zero points], y)`` of a plan."""
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("gemm")
        T.func_attr({"tirx.noalias": True})
        _Kernel(plan).emit()
    return builder.get()


class _Kernel:
    def __init__(self, plan: GemmPlan) -> None:
        self.plan = plan
        packed = plan.packed
        per_group = (packed.padded_n * packed.groups,)
        self.scale_floats = Floats(packed.format.scale)
        self.out_floats = Floats(plan.out)
        self.x = _argument("x", (plan.m, packed.k), Floats(plan.act).dtype)
        self.weights = _argument("codes", (packed.weight_bytes,), "uint8")
        self.scales = _argument("scales", per_group, self.scale_floats.dtype)
        self.zero_points = _argument("zero_points", per_group, "uint8") if packed.format.zero_points else None
        self.y = _argument("y", (plan.m, packed.n), self.out_floats.dtype)
        self.activations = Activations(plan)

    def emit(self) -> None:
        plan = self.plan
        self.activations.prepare(self.x)
        units = plan.packed.tiles * plan.panels
        with parallel(plan.threads) as thread:
            _Thread(self).emit(units * thread // plan.threads, units * (thread + 1) // plan.threads)


class _Thread:
    """What one thread emits, with its own buffers.

    ``sums`` are float32 ``[row of the band][column of the panel]``, ``partial`` the same in int32 between the slabs
    of a group, ``codes`` the decoded ones of a slab, ``[block][chunk][64]``.
    """

    def __init__(self, kernel: _Kernel) -> None:
        self.kernel = kernel
        self.plan = plan = kernel.plan
        self.activations = kernel.activations
        self.sums = T.alloc_buffer((plan.band * plan.panel,), "float32", scope="local")
        if plan.is_split:
            self.partial = T.alloc_buffer((plan.band * plan.panel,), "int32", scope="local")
        if plan.is_staged:
            self.slab_bytes = plan.slab_steps * plan.step_chunks * BYTES
            self.codes = T.alloc_buffer((plan.panel_blocks * self.slab_bytes,), "uint8", scope="local")

    def emit(self, first: Expr, last: Expr) -> None:
        plan = self.plan
        with T.serial(first, last) as unit, loop(plan.bands) as band:
            self.tile, self.panel, self.band = unit // plan.panels, unit % plan.panels, band
            with T.serial(plan.band * plan.panel_blocks) as i:
                store(self.sums, i * LANES, constant(0, "float32", LANES), LANES)
            with loop(plan.packed.groups) as group:
                self._group(group)
            self._write()

    # -- one group of K

    def _group(self, group: Expr) -> None:
        plan = self.plan
        index = (self.tile * plan.packed.groups + group) * plan.packed.tile + self.panel * plan.panel
        if not plan.is_split:
            self._slab(group, index, 0, plan.packed.steps)
            return
        with self._register_tiles() as (row, block):
            for r, v in self._slots():
                start = self._start(group, index, row + r, block + v)
                store(self.partial, self._place(row + r, block + v), start, LANES)
        full, tail = plan.slabs
        with loop(full) as slab:
            self._slab(group, index, slab, plan.slab_steps)
        if tail:
            self._slab(group, index, full, tail)
        with self._register_tiles() as (row, block):
            for r, v in self._slots():
                self._add(group, index, row + r, block + v, load(self.partial, self._place(row + r, block + v), LANES))

    def _slab(self, group: Expr, index: Expr, slab: Expr, steps: int) -> None:
        """Add the products of one slab, which has ``steps`` steps, from step ``slab · slab_steps`` of the group."""
        plan = self.plan
        packed = plan.packed
        first = slab * plan.slab_steps
        base = index // LANES * packed.block_bytes + first * packed.planes * BYTES
        ahead = plan.ahead * packed.tile_blocks * packed.block_bytes if plan.ahead else None
        if plan.is_staged:
            with loop(plan.panel_blocks) as block, loop(steps) as step:
                chunks = step_chunks(plan, self.kernel.weights, base + block * packed.block_bytes, step, ahead)
                for i, chunk in enumerate(chunks):
                    place = block * self.slab_bytes + (step * plan.step_chunks + i) * BYTES
                    store(self.codes, place, chunk, BYTES)
        elif ahead is not None and plan.row_blocks > 1:
            with loop(plan.panel_blocks) as block, loop(steps * packed.planes) as line:
                prefetch(self.kernel.weights, base + block * packed.block_bytes + line * BYTES + ahead)
            ahead = None
        width = steps * plan.step_chunks
        words = self.activations.slab(group, slab) + self.band * plan.band * width
        with self._register_tiles() as (row, block):
            registers = T.alloc_buffer((plan.rows * plan.vectors * LANES,), "int32", scope="local")
            for slot, (r, v) in enumerate(self._slots()):
                if plan.is_split:
                    start = load(self.partial, self._place(row + r, block + v), LANES)
                else:
                    start = self._start(group, index, row + r, block + v)
                store(registers, slot * LANES, start, LANES)
            unroll = plan.unroll if steps % plan.unroll == 0 else 1
            with loop(steps // unroll) as run:
                for u in range(unroll):
                    self._step(registers, base, words + row * width, width, block, run * unroll + u, ahead)
            for slot, (r, v) in enumerate(self._slots()):
                value = read(registers, slot * LANES, LANES)
                if plan.is_split:
                    store(self.partial, self._place(row + r, block + v), value, LANES)
                else:
                    self._add(group, index, row + r, block + v, value)

    def _step(
        self, registers: Buffer, base: Expr, words: Expr, width: int, block: Expr, step: Expr, ahead: Expr | None
    ) -> None:
        """The products of one step of a register tile."""
        plan = self.plan
        chunks = [self._chunks(base, block + v, step, ahead) for v in range(plan.vectors)]
        for c in range(plan.step_chunks):
            for r in range(plan.rows):
                word = T.Bind(self.activations.values[words + r * width + step * plan.step_chunks + c])
                q = T.Bind(T.reinterpret("int8x64", splat(word, LANES)))
                for v in range(plan.vectors):
                    slot = (r * plan.vectors + v) * LANES
                    store(registers, slot, dot(read(registers, slot, LANES), chunks[v][c], q, LANES), LANES)

    def _chunks(self, base: Expr, block: Expr, step: Expr, ahead: Expr | None) -> list[Expr]:
        plan = self.plan
        if not plan.is_staged:
            return step_chunks(plan, self.kernel.weights, base + block * plan.packed.block_bytes, step, ahead)
        place = block * self.slab_bytes + step * plan.step_chunks * BYTES
        return [load(self.codes, place + c * BYTES, BYTES) for c in range(plan.step_chunks)]

    # -- one vector of a group's sums

    def _start(self, group: Expr, index: Expr, row: Expr, block: Expr) -> Expr:
        """What the sums of a vector start from: -z·Σq."""
        offset = self.activations.offset[group * self.plan.padded_m + self.band * self.plan.band + row]
        start = splat(offset, LANES)
        if self.kernel.zero_points is not None:
            start = start * T.Cast(f"int32x{LANES}", load(self.kernel.zero_points, index + block * LANES, LANES))
        return start

    def _add(self, group: Expr, index: Expr, row: Expr, block: Expr, value: Expr) -> None:
        """Scale a group's sums and add them."""
        factor = self.activations.factor[group * self.plan.padded_m + self.band * self.plan.band + row]
        scale = self.kernel.scale_floats.read(self.kernel.scales, index + block * LANES, LANES)
        place = self._place(row, block)
        scaled = T.Cast(f"float32x{LANES}", value) * splat(factor, LANES)
        store(self.sums, place, read(self.sums, place, LANES) + scale * scaled, LANES)

    # -- helpers

    def _place(self, row: Expr, block: Expr) -> Expr:
        return row * self.plan.panel + block * LANES

    def _slots(self) -> Iterator[tuple[int, int]]:
        """(row, vector) of a register tile."""
        return itertools.product(range(self.plan.rows), range(self.plan.vectors))

    @contextmanager
    def _register_tiles(self) -> Iterator[tuple[Expr, Expr]]:
        """Loops over the register tiles of a band by panel: (first row, first block)."""
        plan = self.plan
        with loop(plan.row_blocks) as row, loop(plan.panel_blocks // plan.vectors) as block:
            yield row * plan.rows, block * plan.vectors

    def _write(self) -> None:
        """The band's results; rows of padding are left out."""
        plan = self.plan
        n = plan.packed.n
        first_row, first_column = self.band * plan.band, (self.tile * plan.panels + self.panel) * plan.panel
        rows = plan.band if plan.padded_m == plan.m else T.min(plan.band, plan.m - first_row)
        with T.serial(0, rows) as row, loop(plan.panel_blocks) as block:
            column, place = first_column + block * LANES, self._place(row, block)
            if n % plan.packed.tile == 0:
                self._put(first_row + row, column, place, LANES)
            else:
                with T.If(column + LANES <= n):
                    with T.Then():
                        self._put(first_row + row, column, place, LANES)
                    with T.Else(), T.serial(LANES) as lane, T.If(column + lane < n), T.Then():
                        self._put(first_row + row, column + lane, place + lane, 1)

    def _put(self, row: Expr, column: Expr, place: Expr, lanes: int) -> None:
        self.kernel.out_floats.store(self.kernel.y, (row, column), load(self.sums, place, lanes), lanes)


def _argument(name: str, shape: tuple[int, ...], dtype: str) -> Buffer:
    """A parameter that may lie at any address of its element type."""
    return T.arg(name, T.buffer(shape, dtype, align=np.dtype(dtype).itemsize))
