"""The loops around a register tile, whatever multiplies in it."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

from tvm.tirx.script.builder import ir as T

from fettle.backends.cpu.dense.finish import Finish
from fettle.backends.cpu.dense.geometry import Geometry
from fettle.backends.cpu.dense.operands import copy_x, first_column, pack_block, parallel_or_serial

ROW_PADDING = 16
"""Elements between the rows of a copied x tile: powers of two would collide in the L1 cache."""


class Emitter(abc.ABC):
    """Writes the loops of one kernel into the IR builder that is open."""

    def __init__(self, g: Geometry, x: Any, w: Any, finish: Finish) -> None:
        self.g, self.x, self.w, self.finish = g, x, w, finish
        self.copy: Any = None
        self.block: Any = None
        self.partial: Any = None

    def tasks(self) -> None:
        """The outer loops."""
        g = self.g
        with parallel_or_serial(g.tasks, g.threads) as task:
            b, tile = task // (g.m_tiles * g.n_tiles), task % (g.m_tiles * g.n_tiles)
            if g.rows_outside:
                row0, panel0 = tile // g.n_tiles * g.tile_m, tile % g.n_tiles * g.tile_n
            else:
                row0, panel0 = tile % g.m_tiles * g.tile_m, tile // g.m_tiles * g.tile_n
            if g.copies_x:
                shape = (g.tile_m * g.micro_m, g.block + ROW_PADDING)
                self.copy = T.alloc_buffer(shape, g.copied, align=64)
            if g.rhs == "blocks":
                self.block = T.alloc_buffer((g.tile_n, g.block, g.micro_n), g.copied, align=64)
            if g.k_blocks > 1:
                shape4 = (g.tile_m, g.tile_n, g.micro_m, g.micro_n)
                self.partial = T.alloc_buffer(shape4, "float32", align=64)
            self.finish.allocate()
            self.begin()
            with T.serial(0, g.k_blocks) as block:
                k0 = block * g.block
                length = g.block if g.steps % g.block == 0 else T.min(g.block, g.steps - k0)
                if g.copies_x:
                    copy_x(g, self.x, self.copy, b, row0 * g.micro_m, k0, length)
                if g.rhs == "blocks":
                    pack_block(g, self.w, self.block, b, panel0, k0, length)
                rows, panels = T.serial(0, g.tile_m), T.serial(0, g.tile_n)
                outer, inner = (panels, rows) if g.rows_inside else (rows, panels)
                with outer as first, inner as second:
                    i, j = (second, first) if g.rows_inside else (first, second)
                    self.micro_tile(b, row0, panel0, i, j, block, k0, length)
            self.end()

    @abc.abstractmethod
    def begin(self) -> None:
        """Emit what comes before a task's first register tile."""

    def weights(self, b: Any, panel: Any, j: Any, k0: Any, k: Any, column: Any) -> tuple[Any, tuple[Any, ...]]:
        """The buffer and the indices of step ``k0 + k`` of W, in panel ``j`` of the task's."""
        g = self.g
        if g.rhs == "blocks":
            return self.block, (j, k, column)
        if g.rhs == "direct":
            return self.w, g.at(b, k0 + k, first_column(g, panel) + column)
        return self.w, (b, panel, k0 + k, column)

    @abc.abstractmethod
    def micro_tile(self, b: Any, row0: Any, panel0: Any, i: Any, j: Any, block: Any, k0: Any, length: Any) -> None:
        """Emit one register tile over one block of k: row ``i`` and panel ``j`` of the task's, ``length`` steps from
        ``k0``."""

    def end(self) -> None:
        """Emit what comes after a task's last register tile."""

    def in_block(self, block: Any, number: int, there: Callable[[], None], elsewhere: Callable[[], None]) -> None:
        """Emit ``there`` for block ``number`` of k, ``elsewhere`` for the others, if there are any."""
        if self.g.k_blocks == 1:
            there()
            return
        with T.If(block == number):
            with T.Then():
                there()
            with T.Else():
                elsewhere()
