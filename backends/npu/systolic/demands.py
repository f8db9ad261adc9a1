"""What the tiles of a mapping ask of the DMA engine, the array and the vector unit, and how long that occupies them."""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.backends.npu.systolic import timeline
from fettle.backends.npu.systolic.hardware import Systolic

Ints = NDArray[np.int64]

TRAFFIC = ("inputs", "weights", "sums_in", "sums_out", "results")
"""What moves: two operands and partial sums towards the array, partial sums and results away from it."""

LOADED = 3
"""So many of :data:`TRAFFIC` are loaded, the others stored."""


@attrs.frozen(eq=False)
class Demands:
    """One row for each tile, in program order.

    Attributes:
        dram: ``[tiles, 5]`` bytes of :data:`TRAFFIC` between DRAM and the scratchpad.
        near: the same between the memory tier and the scratchpad.
        work: cycles of the array.
        vector: elementary operations of the vector unit on what the array has finished.
        passed: bytes passed on to a neighbour of the mesh before the tile is stored.
    """

    dram: Ints
    near: Ints
    work: Ints
    vector: Ints
    passed: Ints

    @classmethod
    def of(cls, dram: Ints, work: Ints) -> Demands:
        """Of tiles that use no memory tier, and no vector unit after the array."""
        none = np.zeros(len(dram), np.int64)
        return cls(dram, np.zeros_like(dram), work, none, none)

    def commands(self, runs: int) -> tuple[tuple[str, int], ...]:
        """How many commands a trace of so many runs has; what is asked of the vector unit belongs to a ``compute``."""
        moved = np.count_nonzero(np.stack((self.dram, self.near)), axis=(0, 1))
        counts = {"load": moved[:LOADED].sum(), "compute": len(self.work), "store": moved[LOADED:].sum()}
        return tuple((name, runs * int(count)) for name, count in counts.items())

    def durations(self, hardware: Systolic, sharers: int, split: int | None = None) -> Ints:
        """Cycles of DMA, array, vector unit, DMA: ``[tiles, 4]``, the columns of :mod:`timeline`.

        Args:
            sharers: arrays that share the memories' bandwidths.
            split: which of m, n, k is split over them. What all arrays need is then passed on from one to the next; of
                sums over a split k, one array stores the results.
        """
        h = hardware
        alone = np.zeros(len(TRAFFIC), np.int64)  # what one array moves for all, at this rate
        rate = h.bandwidth if split == 2 else min(h.bandwidth, h.link)
        if sharers > 1 and split is not None:
            alone[(1, 0, 4)[split]] = 1

        def cycles(columns: slice) -> NDArray[np.float64]:
            # bytes of one rate are added up before they are divided: a sum of rounded quotients could be a cycle off
            dram, near, once = self.dram[:, columns], self.near[:, columns], alone[columns]
            shared = dram @ (1 - once) * sharers / h.bandwidth + near.sum(axis=1) * sharers / h.tier_bandwidth
            return np.asarray(shared + dram @ once / rate)

        found = np.zeros((len(self.work), 4), np.int64)
        found[:, timeline.LOAD_TIME] = np.ceil(cycles(slice(LOADED)))
        found[:, timeline.WORK] = self.work
        found[:, timeline.VECTOR] = -(-self.vector // h.vector)
        found[:, timeline.STORE_TIME] = np.ceil(cycles(slice(LOADED, None)) + self.passed / h.link)
        return found
