"""``multiply=tiles``: register tiles of AMX tiles, up to three of 16 rows of x by some of 16 columns of W.

A row of pairs in a panel of W is a row of the right-hand tile as it lies in memory: for each of 16 columns the two
bfloat16 of one step. ``tdpbf16ps`` takes 16 steps. Rows of x beyond M are whatever the copy holds; no other row's sums
depend on them, and theirs are not stored.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from tvm.tirx.script.builder import ir as T

from fettle.backends.cpu.amx import words
from fettle.backends.cpu.amx.shapes import ROW_BYTES, right_tiles, tiles_down
from fettle.backends.cpu.dense.finish import Finish
from fettle.backends.cpu.dense.geometry import Geometry
from fettle.backends.cpu.dense.loops import ROW_PADDING, Emitter
from fettle.backends.cpu.dense.operands import full_or_rest

_WORD = 4
"""Bytes of a sum, and of a pair."""


class TileEmitter(Emitter):
    """Tiles of sums have the numbers 0, 1, …, then come those of x and of W."""

    def __init__(self, g: Geometry, x: Any, w: Any, finish: Finish) -> None:
        super().__init__(g, x, w, finish)
        self.down = tiles_down(g.micro_m)
        self.tile_rows = g.micro_m // self.down
        self.left = self.down * g.vectors
        self.right = self.left + self.down
        self.right_tiles = right_tiles(g.micro_m, g.vectors)

    def begin(self) -> None:
        rows = (self.tile_rows, ROW_BYTES)
        words.configure([rows] * self.right + [(self.g.depth, ROW_BYTES)] * self.right_tiles)

    def end(self) -> None:
        words.release()

    def micro_tile(self, b: Any, row0: Any, panel0: Any, i: Any, j: Any, block: Any, k0: Any, length: Any) -> None:
        g = self.g
        row, panel = row0 + i, panel0 + j
        with T.If(T.And(row < g.micro_rows, panel < g.panels)), T.Then():
            self.in_block(block, 0, self._clear, partial(self._move, words.load, i, j))
            with T.serial(0, length // g.depth) as step:
                self._product(b, row, i, panel, j, k0, step * g.depth)
            keep = partial(self._move, words.store, i, j)
            self.in_block(block, g.k_blocks - 1, partial(self._finish, b, row, panel), keep)

    def _clear(self) -> None:
        for number, _, _ in self._sums():
            words.zero(number)

    def _move(self, how: Callable[..., None], i: Any, j: Any) -> None:
        """Load or store the partial sums of a register tile."""
        for number, r, c in self._sums():
            how(number, self.partial, (i, j, r, c), self.g.micro_n * _WORD)

    def _product(self, b: Any, row: Any, i: Any, panel: Any, j: Any, k0: Any, k: Any) -> None:
        """The products of 16 steps of k from ``k0 + k``."""
        g = self.g
        for t in range(self.down):
            r = t * self.tile_rows
            if g.copies_x:
                words.load(self.left + t, self.copy, (i * g.micro_m + r, k), (g.block + ROW_PADDING) * _WORD)
            else:
                place = g.at(b, row * g.micro_m + r, 2 * (k0 + k))
                words.load(self.left + t, self.x, place, g.k * _WORD // 2)
        for v in range(g.vectors):
            number = self.right + v % self.right_tiles
            words.load(number, *self.weights(b, panel, j, k0, k, v * g.lanes), g.micro_n * _WORD)
            for t in range(self.down):
                words.multiply("bf16ps", t * g.vectors + v, self.left + t, number)

    def _finish(self, b: Any, row: Any, panel: Any) -> None:
        g = self.g
        for number, r, c in self._sums():
            words.store(number, self.finish.tile_buffer, (r, c), g.micro_n * _WORD)
        full, rest = divmod(g.m, g.micro_m)
        full_or_rest(row, full, rest, *(partial(self.finish.buffered, b, row, panel, n) for n in (g.micro_m, rest)))

    def _sums(self) -> Iterator[tuple[int, int, int]]:
        """(tile number, first row, first column) of the tiles of sums."""
        for number, (t, v) in enumerate(itertools.product(range(self.down), range(self.g.vectors))):
            yield number, t * self.tile_rows, v * self.g.lanes
