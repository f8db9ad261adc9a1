"""What of a mapped product lies in a scratchpad and when, from its timeline; and where, planned like any other memory.

Tiles of an operand take turns in its slots: one if it is loaded only once, else as many as the schedule has buffers.
A slot is a tensor that lives from the first byte of its first tile to the last use of its last one.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.backends.npu.systolic import program, timeline
from fettle.graph.memory.buffers import Buffer, lower_bound
from fettle.graph.memory.plan import MemoryPlan, plan

Ints = NDArray[np.int64]

OPERANDS = ("inputs", "weights", "sums")

_PLANNING_SECONDS = 0.1
"""There are six slots at most."""


@attrs.frozen(eq=False)
class Tiles:
    """The tiles of one operand in the order they come; one element each.

    Attributes:
        begin, end: cycles between which the tile is in the scratchpad: its first byte may come at ``begin``, and its
            last is used before ``end``.
        size: bytes.
        slots: in which the tiles take turns.
    """

    operand: str
    begin: Ints
    end: Ints
    size: Ints
    slots: int

    def buffers(self) -> list[Buffer]:
        """The slots, each as large as the largest tile."""
        found, largest = [], int(self.size.max())
        for slot in range(self.slots):
            mine = slice(slot, None, self.slots)
            lower, upper = int(self.begin[mine].min()), int(self.end[mine].max())
            found.append(Buffer(self.name(slot), lower, upper, largest))
        return found

    def name(self, number: int) -> str:
        """Of the slot a tile is in."""
        return f"{self.operand} {number % self.slots}"


def tiles(steps: Ints, events: Ints, load_time: Ints, latency: int, sizes: Ints, buffers: int) -> tuple[Tiles, ...]:
    """The tiles of all operands.

    Args:
        steps: one row for each step of the timeline: the program, as often as it runs.
        events: its timeline.
        load_time: cycles the DMA engine works for each step's operands.
        sizes: ``[steps, 3]`` bytes of each step's inputs, weights and sums.
        buffers: of the schedule.
    """
    loading = events[:, timeline.LOADED] - latency - load_time
    found = []
    for number, column in enumerate((program.LOAD_X, program.LOAD_W)):
        first = np.flatnonzero(steps[:, column])
        last = np.append(first[1:], len(steps)) - 1
        found.append(_tiles(number, loading[first], events[last, timeline.END], sizes[first, number], buffers))
    last = np.flatnonzero(steps[:, program.STORE])
    first = np.append(0, last[:-1] + 1)
    begin = np.where(steps[first, program.LOAD_Y] > 0, loading[first], events[first, timeline.START])
    found.append(_tiles(2, begin, events[last, timeline.STORED], sizes[first, 2], buffers))
    return tuple(found)


def _tiles(number: int, begin: Ints, end: Ints, size: Ints, buffers: int) -> Tiles:
    return Tiles(OPERANDS[number], begin, end, size, min(buffers, len(begin)))


def lay_out(operands: Sequence[Tiles]) -> MemoryPlan:
    """Where the slots lie, in as little memory as can be found."""
    slots = [buffer for operand in operands for buffer in operand.buffers()]
    return plan(slots, lower_bound(slots), seconds=_PLANNING_SECONDS)
