"""The loops that Numba compiles, in a module that is imported when one of them is called: Numba takes a fifth of a
second to load, and to describe a device or to look up a kernel nobody needs it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fettle.backends.host.compiling import cached
from fettle.backends.npu.systolic.program import (
    AGAIN_W,
    AGAIN_X,
    CONTINUES,
    LOAD_W,
    LOAD_X,
    LOAD_Y,
    PARTIAL,
    RESULT,
    STORE,
    Steps,
)
from fettle.backends.npu.systolic.timeline import END, LOAD_TIME, LOADED, START, STORE_TIME, STORED, VECTOR, WORK, Ints

Array = NDArray[Any]


@cached
def timeline(durations: Ints, repeats: int, latency: int, double: bool) -> Ints:  # pragma: no cover (compiled)
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


@cached
def fill(  # pragma: no cover (compiled)
    steps: Steps,
    extents: Steps,
    tile: Steps,
    counts: Steps,
    order: Steps,
    one_fold: bool,
    streamed: int,
    at: Steps,
    before: Steps,
) -> None:
    """Fill in the steps; ``at`` and ``before`` are for numbers of the present tile and the last. To allocate arrays
    here, or to assign a whole one, would take seconds to compile."""
    total = len(steps)
    for number in range(total):
        rest = number
        for level in range(2, -1, -1):
            dimension = order[level]
            at[dimension] = rest % counts[dimension]
            rest //= counts[dimension]
        step = steps[number]
        for dimension in range(3):
            step[2 * dimension] = at[dimension] * tile[dimension]
            step[2 * dimension + 1] = min(extents[dimension], (at[dimension] + 1) * tile[dimension])
        step[LOAD_X] = at[0] != before[0] or at[2] != before[2]
        step[LOAD_W] = at[1] != before[1] or at[2] != before[2]
        step[AGAIN_X] = step[LOAD_X] and at[1] > 0
        step[AGAIN_W] = step[LOAD_W] and at[0] > 0
        if at[0] != before[0] or at[1] != before[1]:
            step[LOAD_Y] = at[2] > 0
            if number:
                steps[number - 1, STORE] = RESULT if before[2] == counts[2] - 1 else PARTIAL
        moved = 0
        for dimension in range(3):
            moved += dimension != streamed and at[dimension] != before[dimension]
        step[CONTINUES] = one_fold and moved == 0 and number > 0
        for dimension in range(3):
            before[dimension] = at[dimension]
    steps[total - 1, STORE] = RESULT


@cached
def sum_tables(tables: Array, codes: Array, bits: int, sums: Array) -> None:  # pragma: no cover (compiled)
    for quad in range(tables.shape[1]):
        for n in range(codes.shape[1]):
            for bit in range(bits):
                first = (codes[4 * quad, n] >> bit) & 1
                entry = 0
                for other in range(3):
                    sign = (codes[4 * quad + 1 + other, n] >> bit) & 1
                    entry |= (sign if first else 1 - sign) << other
                weight = 0.5 * (1 << bit) * (1.0 if first else -1.0)
                for m in range(tables.shape[0]):
                    sums[m, n] += weight * tables[m, quad, entry]
