"""The tiles of a mapped matrix product, in order, and what is moved for each: what is timed and what is executed."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

M0, M1, N0, N1, K0, K1, LOAD_X, LOAD_W, LOAD_Y, STORE, CONTINUES, AGAIN_X, AGAIN_W = range(13)
"""Columns of a program: the tile ``[m0:m1, n0:n1, k0:k1]``; whether its inputs, weights and partial sums are loaded
before it; what of the output is stored after it (0 nothing, 1 partial sums, 2 results); whether the array goes on with
the operand it holds; whether inputs and weights that are loaded were loaded before."""

PARTIAL, RESULT = 1, 2

Steps = NDArray[np.int64]


def tiles(extents: Steps, tile: Steps, order: Steps, one_fold: bool, streamed: int) -> Steps:
    """The program of one product.

    Args:
        extents, tile: of m, n, k.
        order: the loops, outermost first, as numbers of m, n, k.
        one_fold: a tile is one fold of the array, so the streamed dimension may go on from tile to tile.
        streamed: the number of that dimension.
    """
    counts = (extents + tile - 1) // tile
    steps = np.zeros((int(counts.prod()), 13), np.int64)
    _fill(steps, extents, tile, counts, order, one_fold, streamed, np.zeros(3, np.int64), np.full(3, -1, np.int64))
    return steps


@njit(cache=True)
def _fill(  # pragma: no cover (compiled)
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
