"""The kernel around the inner loops: tiles over threads, groups of K, scales and zero points, the result.

For every tile: ``y[m, n] = Σ_g scale[n, g] · (S[m, n, g] · factor[m, g] + total[m, g] · (h - z[n, g]))``, where S are
the sums of the chosen inner loop (see ``activations``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tvm.script.ir_builder import IRBuilder

from fettle.backends.cpu.gemv.activations import Prepared
from fettle.backends.cpu.gemv.dequantise import Dequantise
from fettle.backends.cpu.gemv.dots import Dot, Partial
from fettle.backends.cpu.gemv.formats import Floats
from fettle.backends.cpu.gemv.integer import Pairs, Vnni
from fettle.backends.cpu.gemv.lut import Permute, Shuffle
from fettle.backends.cpu.gemv.mirror import Mirror
from fettle.backends.cpu.gemv.plan import Plan
from fettle.backends.cpu.gemv.triplets import Triplets
from fettle.backends.cpu.gemv.words import Buffer, Expr, T, argument, constant, load, loop, parallel, splat, store

DOTS: dict[tuple[str, str], type[Dot]] = {
    ("integer", "avx512"): Vnni,
    ("integer", "avxvnni"): Vnni,
    ("integer", "avx2"): Pairs,
    ("lut", "avx512"): Permute,
    ("lut", "avx512bw"): Shuffle,
    ("lut", "avx2"): Shuffle,
    ("mirror", "avx512"): Mirror,
    ("triplets", "avx512"): Triplets,
    ("triplets", "avx512bw"): Triplets,
    ("triplets", "avx2"): Triplets,
    ("triplets", "portable"): Triplets,
    ("dequantise", "avx512"): Dequantise,
    ("dequantise", "avx2"): Dequantise,
    ("dequantise", "portable"): Dequantise,
}
"""The inner loop of each (algorithm, instruction set)."""


def kernel(plan: Plan) -> Any:
    """The TensorIR function ``(x, codes, scales[, zero points], y)`` of a plan."""
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("gemv")
        T.func_attr({"tirx.noalias": True})
        _Kernel(plan).emit()
    return builder.get()


class _Kernel:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        per_group = (plan.padded_n * plan.stored_groups,)
        self.scale_floats = Floats(plan.format.scale, plan.converts_half)
        self.out_floats = Floats(plan.out, plan.converts_half)
        self.x = argument("x", plan.x_shape, "int32" if plan.prepared else Floats(plan.act).dtype)
        self.weights = argument("codes", (plan.weight_bytes,), "uint8")
        self.scales = argument("scales", per_group, self.scale_floats.dtype)
        self.zero_points = argument("zero_points", per_group, "uint8") if plan.format.zero_points else None
        self.y = argument("y", (plan.m, plan.n), self.out_floats.dtype)

    def emit(self) -> None:
        plan = self.plan
        shared = plan.preparation == "shared"
        if shared:
            prepared = Prepared.of(plan, self.x)
            prepared.prepare_in_parallel()
        with parallel(plan.threads) as thread:
            if not shared:
                prepared = Prepared.of(plan, self.x)
                prepared.prepare(0, plan.m * plan.groups)
            dot = DOTS[plan.algorithm, plan.isa](plan, self.weights, prepared)
            with self._own_tiles(thread) as tile, loop(-(-plan.m // plan.batch)) as batch:
                self._tile(dot, tile, batch)

    @contextmanager
    def _own_tiles(self, thread: Expr) -> Iterator[Expr]:
        """A loop over the tiles of a thread."""
        tiles, threads = self.plan.tiles, self.plan.threads
        if self.plan.split == "contiguous":
            with T.serial(tiles * thread // threads, tiles * (thread + 1) // threads) as tile:
                yield tile
        else:
            with T.serial((tiles - thread + threads - 1) // threads) as turn:
                yield turn * threads + thread

    def _tile(self, dot: Dot, tile: Expr, batch: Expr) -> None:
        """One tile of N for ``plan.batch`` rows of x."""
        plan = self.plan
        # the last batch overlaps the one before where batches do not divide m: same values written twice
        top = T.min(batch * plan.batch, plan.m - plan.batch) if plan.m > plan.batch else 0
        rows = [top + b for b in range(plan.batch)]
        sums = T.alloc_buffer((plan.batch * plan.tile,), "float32", scope="local")
        for i in range(0, plan.batch * plan.tile, plan.lanes):
            store(sums, i, constant(0, "float32", plan.lanes), plan.lanes)
        with loop(plan.stored_groups) as stored, loop(plan.tile_blocks // plan.blocks) as superblock:
            group = stored // plan.planes_apart
            first_row = superblock * plan.blocks * plan.block_rows
            index = (tile * plan.stored_groups + stored) * plan.tile
            base = (index // plan.block_rows + superblock * plan.blocks) * plan.block_bytes
            for partial in dot.partials(base, rows, group):
                row = first_row + partial.block * plan.block_rows + partial.part * plan.lanes
                self._add(sums, partial, row, index + row, rows[partial.batch] * plan.groups + group, dot.prepared)
        self._write(sums, tile, rows)

    def _add(self, sums: Buffer, partial: Partial, row: Expr, column: Expr, pair: Expr, prepared: Prepared) -> None:
        """Scale a vector of sums and add it to the tile's."""
        plan, lanes = self.plan, self.plan.lanes
        scale = self.scale_floats.load(self.scales, column, lanes)
        value = partial.value
        if plan.algorithm != "dequantise":
            value = T.Cast(f"float32x{lanes}", value)
            factor = splat(prepared.factor[pair], lanes)
            if plan.has_offset or self.zero_points is not None:
                value = value * factor
            else:
                scale = scale * factor  # which waits for no sum
        if plan.has_offset:
            value = value + splat(prepared.offset[pair], lanes)
        if self.zero_points is not None:
            zeros = T.Cast(f"float32x{lanes}", load(self.zero_points, column, lanes))
            value = value - zeros * splat(prepared.total[pair], lanes)
        position = partial.batch * plan.tile + row
        store(sums, position, load(sums, position, lanes) + scale * value, lanes)

    def _write(self, sums: Buffer, tile: Expr, rows: list[Expr]) -> None:
        """The tile's results; rows of padding are left out."""
        plan = self.plan
        for b, row in enumerate(rows):
            with loop(plan.tile // plan.lanes) as vector:
                self._write_vector(sums, tile, b, row, vector)

    def _write_vector(self, sums: Buffer, tile: Expr, b: int, row: Expr, vector: Expr) -> None:
        """One vector of the results of row ``row``, the batch's ``b``-th."""
        plan, lanes = self.plan, self.plan.lanes
        column, position = tile * plan.tile + vector * lanes, b * plan.tile + vector * lanes
        if plan.n % plan.tile == 0:
            self._put(row, column, sums, position, lanes)
            return
        with T.If(column + lanes <= plan.n):
            with T.Then():
                self._put(row, column, sums, position, lanes)
            if plan.n % lanes:
                with T.Else(), T.serial(lanes) as lane, T.If(column + lane < plan.n), T.Then():
                    self._put(row, column + lane, sums, position + lane, 1)

    def _put(self, row: Expr, column: Expr, sums: Buffer, position: Expr, lanes: int) -> None:
        self.out_floats.store(self.y, (row, column), load(sums, position, lanes), lanes)
