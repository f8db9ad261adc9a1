"""What the inner loops have in common: they sum a superblock of rows over one group of K."""

from __future__ import annotations

import abc
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from fettle.backends.cpu.gemv.words import Buffer, Expr, Registers, load, loop, prefetch

if TYPE_CHECKING:
    from fettle.backends.cpu.gemv.activations import Prepared
    from fettle.backends.cpu.gemv.plan import Plan


@attrs.frozen(eq=False)
class Partial:
    """A vector of sums over one group.

    Attributes:
        batch: which of the batch's rows of x.
        block, part: rows ``block · block_rows + part · lanes`` … of the superblock.
        value: int32 or float32 vector of ``lanes`` sums.
    """

    batch: int
    block: int
    part: int
    value: Expr


class Dot(abc.ABC):
    """One inner loop; emits code into the builder's current frame."""

    def __init__(self, plan: Plan, weights: Buffer, prepared: Prepared) -> None:
        self.plan = plan
        self.weights = weights
        self.prepared = prepared

    @abc.abstractmethod
    def partials(self, base: Expr, rows: list[Expr], group: Expr) -> list[Partial]:
        """Emit the sums over one group.

        Args:
            base: offset of the superblock's first line in the weights, in bytes.
            rows: the batch's rows of x.
            group: index of the group.
        """

    def registers(self, dtype: str, lanes: int | None = None, zeroed: bool = True) -> Registers:
        """Sums of a superblock, ``accumulators`` for each slot."""
        plan = self.plan
        count = plan.batch * plan.blocks * plan.parts * plan.accumulators
        return Registers(count, dtype, lanes or plan.lanes, zeroed)

    def slot(self, b: int, block: int, part: int = 0) -> int:
        """Number of a vector in flight; its sums have the numbers ``slot · accumulators`` …"""
        return (b * self.plan.blocks + block) * self.plan.parts + part

    def slots(self) -> Iterator[tuple[int, int, int, int]]:
        """(batch row, block, part, slot) of every vector in flight."""
        plan = self.plan
        for b, block, part in itertools.product(range(plan.batch), range(plan.blocks), range(plan.parts)):
            yield b, block, part, self.slot(b, block, part)

    def vectors(self) -> Iterator[tuple[int, int]]:
        """(block, part) of the vectors of a superblock."""
        return itertools.product(range(self.plan.blocks), range(self.plan.parts))

    def step_runs(self) -> Iterator[list[Expr]]:
        """The steps of a group, ``unroll`` at a time, inside a loop over such runs."""
        unroll = self.plan.unroll
        with loop(self.plan.steps // unroll) as run:
            yield [run * unroll + i for i in range(unroll)]

    def steps(self) -> Iterator[Expr]:
        """The steps of a group, one at a time, unrolled."""
        for run in self.step_runs():
            yield from run

    def line(self, base: Expr, block: int, part: int, number: Expr) -> Expr:
        """A vector of a block's line ``number``, as unsigned bytes; the first also asks for a later line."""
        plan = self.plan
        size = plan.line_bytes // plan.parts
        offset = base + (number * plan.blocks + block) * plan.line_bytes
        if plan.prefetch and part == 0:
            prefetch(self.weights, offset + plan.prefetch)
        return load(self.weights, offset + part * size, size)
