"""When each tile is loaded, computed and stored: an exact event timeline of one DMA engine, the array, the vector unit.

The DMA engine moves one transfer after the other, in program order; a transfer occupies it for its bytes and arrives
``latency`` cycles later. With double buffering the operands of the next tile are loaded into the other half of the
scratchpad while the array works, as soon as the tile that used that half is done; without, after the present one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

LOAD_TIME, WORK, VECTOR, STORE_TIME = range(4)
"""Columns of durations in cycles: DMA for loads, array, vector unit afterwards, DMA for the store."""

LOADED, START, END, STORED = range(4)
"""Columns of a timeline: operands there, array starts, array ends, output in memory (or vector unit done)."""


def run(durations: Ints, repeats: int, latency: int, double: bool) -> Ints:
    """The timeline ``[repeats · steps, 4]`` of a program run ``repeats`` times in a row."""
    from fettle.backends.npu.systolic import compiled

    return np.asarray(compiled.timeline(durations, repeats, latency, double))
