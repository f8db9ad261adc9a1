"""Where five ternary digits are in their half table of 128 entries. Plain arithmetic.

Digits t (each -1, 0, +1) have the value ``Σ t_i·3^i = u + 27·v`` with u in -13 … 13 from the first three and v in
-4 … 4 from the last two; a table holds the values 0 … 121, their negatives are its mirror image. It is four blocks of
32 lanes: lane u + 13 of block v - 1 for v > 0, and for v = 0 the five lanes left over in each block.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK = 32
"""Entries of a block."""

MAIN = 27
"""Lanes of a block that hold the values of its v; the others hold values of v = 0."""

SPARE = BLOCK - MAIN

LARGEST_TRIPLET = 13
"""Value of three digits +1."""


def digits(value: int, count: int) -> tuple[int, ...]:
    """Balanced ternary digits, lowest first."""
    found = []
    for _ in range(count):
        digit = (value + 1) % 3 - 1
        found.append(digit)
        value = (value - digit) // 3
    return tuple(found)


def quintet_index(value: NDArray[np.integer]) -> NDArray[np.integer]:
    """Entry of each value 0 … 121."""
    v = (value + 13) // 27
    u = value - 27 * v
    main = (v - 1) * BLOCK + u + 13
    spare = u // SPARE * BLOCK + MAIN + u % SPARE
    return np.where(v == 0, spare, main)


def source_lane(block: int, lane: int) -> int:
    """The lane of a block's common part (Σ of the first three digits, u = lane - 13) that an entry starts from."""
    if lane < MAIN:
        return lane
    u = block * SPARE + lane - MAIN
    return 13 + (u if u <= 13 else 0)
