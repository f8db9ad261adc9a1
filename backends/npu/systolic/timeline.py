"""When each tile is loaded, computed and stored: an exact event timeline of one DMA engine, the array, the vector unit.

The DMA engine moves one transfer after the other, in program order; a transfer occupies it for its bytes and arrives
``latency`` cycles later. With double buffering the operands of the next tile are loaded into the other half of the
scratchpad while the array works, as soon as the tile that used that half is done; without, after the present one.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Ints = NDArray[np.int64]

LOAD_TIME, WORK, VECTOR, STORE_TIME = range(4)
"""Columns of durations in cycles: DMA for loads, array, vector unit afterwards, DMA for the store."""

LOADED, START, END, STORED = range(4)
"""Columns of a timeline: operands there, array starts, array ends, output in memory (or vector unit done)."""


@njit(cache=True)
def run(durations: Ints, repeats: int, latency: int, double: bool) -> Ints:  # pragma: no cover (compiled)
    """The timeline ``[repeats · steps, 4]`` of a program run ``repeats`` times in a row."""
    steps = len(durations)
    total = steps * repeats
    events = np.zeros((total, 4), np.int64)
    dma = array = vector = 0
    ahead = 1 if double else 0
    scheduled = 0
    for step in range(total):
        # operands of this tile, and of the next one if there is room for both
        while scheduled <= min(step + ahead, total - 1):
            work = durations[scheduled % steps, LOAD_TIME]
            free = events[scheduled - 1 - ahead, END] if scheduled > ahead else 0
            if work > 0:
                dma = max(dma, free) + work
                events[scheduled, LOADED] = dma + latency
            else:
                events[scheduled, LOADED] = free
            scheduled += 1
        now = durations[step % steps]
        # an output leaves its buffer before the tile after next (double) or the next one writes there
        start = max(array, events[step, LOADED])
        if step > ahead:
            start = max(start, events[step - 1 - ahead, STORED])
        array = start + now[WORK]
        events[step, START] = start
        events[step, END] = array
        events[step, STORED] = array
        if now[VECTOR] > 0 or now[STORE_TIME] > 0:
            vector = max(vector, array) + now[VECTOR]
            events[step, STORED] = vector
        if now[STORE_TIME] > 0:
            dma = max(dma, vector) + now[STORE_TIME]
            events[step, STORED] = dma
    return events
