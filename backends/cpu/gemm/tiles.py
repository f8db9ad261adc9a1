"""What the inner loops have in common: panels, bands and groups walked by one thread, and the result written."""

from __future__ import annotations

import abc
import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import attrs

from fettle.backends.cpu.gemm.activations import Activations
from fettle.backends.cpu.gemm.plan import LANES, GemmPlan
from fettle.backends.cpu.gemv.formats import Floats
from fettle.backends.cpu.gemv.words import Buffer, Expr, T, constant, load, loop, store


@attrs.frozen(eq=False)
class Arguments:
    """The kernel's parameters; zero points are None where the format stores none."""

    x: Buffer
    weights: Buffer
    scales: Buffer
    zero_points: Buffer | None
    y: Buffer


class Tiles(abc.ABC):
    """One thread's work, with its own buffers: ``sums`` are float32, ``[row of the band][column of the panel]``."""

    def __init__(self, plan: GemmPlan, arguments: Arguments, activations: Activations) -> None:
        self.plan = plan
        self.arguments = arguments
        self.activations = activations
        self.scale_floats = Floats(plan.packed.format.scale)
        self.out_floats = Floats(plan.out)
        self.sums = T.alloc_buffer((plan.band * plan.panel,), "float32", scope="local")

    def emit(self, first: Expr, last: Expr, share: Expr) -> None:
        """Emit the panels ``first`` … ``last - 1`` of the bands in share number ``share``."""
        plan = self.plan
        own = plan.bands // plan.row_threads
        with T.serial(first, last) as unit, loop(own) as band:
            self.tile, self.panel, self.band = unit // plan.panels, unit % plan.panels, share * own + band
            with T.serial(plan.band * plan.panel_blocks) as i:
                store(self.sums, i * LANES, constant(0, "float32", LANES), LANES)
            with loop(plan.packed.groups) as group:
                index = (self.tile * plan.packed.groups + group) * plan.packed.tile + self.panel * plan.panel
                self.group(group, index)
            self._write()

    @abc.abstractmethod
    def group(self, group: Expr, index: Expr) -> None:
        """Emit the addition of one group's products to the sums.

        Args:
            index: place of the panel's first row of W in the scales.
        """

    # -- words of the inner loops

    def slabs(self) -> Iterator[tuple[Expr, int]]:
        """(index, steps) of the slabs of a group, inside a loop over the full ones."""
        full, tail = self.plan.slabs
        if full:
            with loop(full) as slab:
                yield slab, self.plan.slab_steps
        if tail:
            yield full, tail

    def slots(self) -> Iterator[tuple[int, int]]:
        """(row, vector) of a register tile."""
        return itertools.product(range(self.plan.rows), range(self.plan.vectors))

    @contextmanager
    def register_tiles(self) -> Iterator[tuple[Expr, Expr]]:
        """Loops over the register tiles of a band by panel: (first row, first block)."""
        plan = self.plan
        with loop(plan.row_blocks) as row, loop(plan.panel_blocks // plan.vectors) as block:
            yield row * plan.rows, block * plan.vectors

    def place(self, row: Expr, block: Expr) -> Expr:
        """Where a vector of sums is."""
        return row * self.plan.panel + block * LANES

    def lines(self, index: Expr, slab: Expr, block: Expr) -> Expr:
        """Where the first line of a slab of a block of the panel is in the weights, in bytes."""
        plan, packed = self.plan, self.plan.packed
        first_block, turn = block // packed.blocks * packed.blocks, block % packed.blocks
        first_line = (index // LANES + first_block) * packed.block_bytes + turn * packed.line_bytes
        return first_line + slab * plan.slab_steps * packed.planes * plan.line_stride

    @property
    def ahead(self) -> int | None:
        """Bytes ahead of which weights are asked for."""
        plan = self.plan
        return plan.ahead * plan.packed.tile_blocks * plan.packed.block_bytes if plan.ahead else None

    # -- the result

    def _write(self) -> None:
        """The band's results; rows of padding are left out."""
        plan = self.plan
        n = plan.packed.n
        first_row, first_column = self.band * plan.band, (self.tile * plan.panels + self.panel) * plan.panel
        rows = plan.band if plan.padded_m == plan.m else T.min(plan.band, plan.m - first_row)
        with T.serial(0, rows) as row, loop(plan.panel_blocks) as block:
            column, place = first_column + block * LANES, self.place(row, block)
            if n % plan.packed.tile == 0:
                self._put(first_row + row, column, place, LANES)
            else:
                with T.If(column + LANES <= n):
                    with T.Then():
                        self._put(first_row + row, column, place, LANES)
                    with T.Else(), T.serial(LANES) as lane, T.If(column + lane < n), T.Then():
                        self._put(first_row + row, column + lane, place + lane, 1)

    def _put(self, row: Expr, column: Expr, place: Expr, lanes: int) -> None:
        self.out_floats.store(self.arguments.y, (row, column), load(self.sums, place, lanes), lanes)
