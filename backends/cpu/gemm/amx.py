"""``algorithm=amx``: int8 tiles of x times tiles of decoded codes, which four chunks of 16 rows of W already are.

A chunk, 16 rows of W by four k, is one row of the right-hand tile, so that 16 chunks as the first-level cache holds
them are a tile; codes that are bytes in memory are loaded from there. A register tile of ``tiles_down`` by ``vectors``
sums loads ``tiles_down + vectors`` tiles for its ``tiles_down · vectors`` products. Its sums leave the tile registers
once a group (once a slab where a group has several), to be scaled by vectors: three of their instructions a vector.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from fettle.backends.cpu.amx import words
from fettle.backends.cpu.amx.shapes import right_tiles
from fettle.backends.cpu.gemm.activations import Quantised
from fettle.backends.cpu.gemm.codes import CodeTiles
from fettle.backends.cpu.gemm.decode import BYTES
from fettle.backends.cpu.gemm.plan import LANES, GemmPlan
from fettle.backends.cpu.gemm.tiles import Arguments
from fettle.backends.cpu.gemv.words import Expr, T, constant, load, loop, store


class AmxTiles(CodeTiles):
    """``partial`` are int32 sums on their way from tiles to vectors: of a register tile, or of the whole band where a
    group has several slabs."""

    def __init__(self, plan: GemmPlan, arguments: Arguments, activations: Quantised) -> None:
        super().__init__(plan, arguments, activations)
        shape = (plan.band, plan.panel) if plan.is_split else (plan.rows, plan.vectors * LANES)
        self.partial = T.alloc_buffer((shape[0] * shape[1],), "int32", scope="local", align=64)
        self.partial_row = shape[1]
        self.left = plan.tiles_down * plan.vectors
        """Number of the first tile of x; tiles of sums come before, tiles of codes behind."""
        self.right = self.left + plan.tiles_down
        self.code_tiles = right_tiles(plan.rows, plan.vectors)

    def emit(self, first: Expr, last: Expr, share: Expr) -> None:
        plan = self.plan
        sums, x, codes = (plan.tile_rows, 4 * LANES), (plan.tile_rows, plan.tile_k), (plan.tile_k // 4, BYTES)
        words.configure([sums] * self.left + [x] * plan.tiles_down + [codes] * self.code_tiles)
        super().emit(first, last, share)
        words.release()

    def group(self, group: Expr, index: Expr) -> None:
        plan = self.plan
        if not plan.is_split:
            self._slab(group, index, 0, plan.packed.steps)
            return
        with T.serial(plan.band * plan.panel_blocks) as i:
            store(self.partial, i * LANES, constant(0, "int32", LANES), LANES)
        for slab, steps in self.slabs():
            self._slab(group, index, slab, steps)
        with self.register_tiles() as (row, block):
            self._scale(group, index, row, block)

    def _slab(self, group: Expr, index: Expr, slab: Expr, steps: int) -> None:
        """Add the products of one slab, which has ``steps`` steps of the packed weights."""
        plan = self.plan
        if plan.is_staged:
            self.stage(index, slab, steps)
        else:
            self.ask_ahead(index, slab, steps)
        width = steps * plan.packed.step_k
        q = self.activations.slab(group, slab) + self.band * plan.band * (width // 4)
        products = width // plan.tile_k
        unroll = plan.unroll if products % plan.unroll == 0 else 1
        with self.register_tiles() as (row, block):
            for number, i, v in self._sums():
                if plan.is_split:
                    words.load(number, self.partial, self._place(row, block, i, v), 4 * self.partial_row)
                else:
                    words.zero(number)
            with loop(products // unroll) as run:
                for u in range(unroll):
                    self._product(q + row * (width // 4), width, index, slab, block, run * unroll + u)
            for number, i, v in self._sums():
                words.store(number, self.partial, self._place(row, block, i, v), 4 * self.partial_row)
            if not plan.is_split:
                self._scale(group, index, row, block)

    def _product(self, q: Expr, width: int, index: Expr, slab: Expr, block: Expr, step: Expr) -> None:
        """Emit the products of one ``tile_k`` of a register tile."""
        plan = self.plan
        for i in range(plan.tiles_down):
            row = i * plan.tile_rows
            words.load(self.left + i, self.activations.values, q + (row * width + step * plan.tile_k) // 4, width)
        for v in range(plan.vectors):
            number = self.right + v % self.code_tiles
            chunk = step * (plan.tile_k // 4)
            if plan.is_staged:
                words.load(number, self.codes, (block + v) * self.slab_bytes + chunk * BYTES, BYTES)
            else:
                place = self.lines(index, slab, block + v) + chunk * plan.line_stride
                words.load(number, self.arguments.weights, place, plan.line_stride)
            for i in range(plan.tiles_down):
                words.multiply("bssd" if plan.is_centred else "bsud", i * plan.vectors + v, self.left + i, number)

    def _scale(self, group: Expr, index: Expr, row: Expr, block: Expr) -> None:
        """Emit the scaling of a register tile's sums, a row at a time."""
        plan = self.plan
        first = self._place(row, block, 0, 0)
        with T.serial(plan.rows) as r:
            for v in range(plan.vectors):
                value = load(self.partial, first + r * self.partial_row + v * LANES, LANES)
                if not plan.is_centred:
                    value = value + self.offset(group, index, row + r, block + v)
                self.add(group, index, row + r, block + v, value)

    def _sums(self) -> Iterator[tuple[int, int, int]]:
        """(tile number, tile row, vector) of the sums of a register tile."""
        slots = itertools.product(range(self.plan.tiles_down), range(self.plan.vectors))
        return ((number, i, v) for number, (i, v) in enumerate(slots))

    def _place(self, row: Expr, block: Expr, i: int, v: int) -> Expr:
        """Where a tile of sums of the register tile at (row, block) begins in ``partial``."""
        down, across = i * self.plan.tile_rows, v * LANES
        if not self.plan.is_split:
            return down * self.partial_row + across
        return self.place(row + down, block + v)
