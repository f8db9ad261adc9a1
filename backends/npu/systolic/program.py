"""The tiles of a mapped matrix product, in order, and what is moved for each: what is timed and what is executed."""

from __future__ import annotations

import numpy as np
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
    from fettle.backends.npu.systolic import compiled

    counts = (extents + tile - 1) // tile
    steps = np.zeros((int(counts.prod()), 13), np.int64)
    at, before = np.zeros(3, np.int64), np.full(3, -1, np.int64)
    compiled.fill(steps, extents, tile, counts, order, one_fold, streamed, at, before)
    return steps
