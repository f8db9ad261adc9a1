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


@njit(cache=True)
def tiles(extents: Steps, tile: Steps, order: Steps, one_fold: bool, streamed: int) -> Steps:  # pragma: no cover
    """The program of one product.

    Args:
        extents, tile: of m, n, k.
        order: the loops, outermost first, as numbers of m, n, k.
        one_fold: a tile is one fold of the array, so the streamed dimension may go on from tile to tile.
        streamed: the number of that dimension.
    """
    counts = (extents + tile - 1) // tile
    total = counts[0] * counts[1] * counts[2]
    steps = np.zeros((total, 13), np.int64)
    at = np.zeros(3, np.int64)
    before = np.full(3, -1, np.int64)
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
        before[:] = at
    steps[total - 1, STORE] = RESULT
    return steps
