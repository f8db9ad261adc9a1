"""The blocks of keys that a tile of queries sees, one by one; see :mod:`fettle.graph.patterns`.

Queries of the blocks i₀ … i₁ see the *near* blocks, from i₀ - B + 1 up to i₁, and *far* ones: the first A (ashape), or
those of some residues modulo A. Both are told by a formula, so that a loop over them copies its keys ahead.
"""

import triton
import triton.language as tl

ASHAPE = tl.constexpr(1)
SLASH = tl.constexpr(2)
SCATTER = tl.constexpr(7)


@triton.jit
def seen(i, j, PATTERN: tl.constexpr, A: tl.constexpr, B: tl.constexpr):
    """Whether blocks i of queries see block j of keys."""
    if PATTERN == ASHAPE:
        result = (j < A) | ((i - j >= 0) & (i - j < B))
    elif PATTERN == SLASH:
        result = (j % A == 0) | (i % A == j % A)
    else:
        result = ((SCATTER * i + j) % A == 0) | (i == j)
    return result


@triton.jit
def first_near(i0, B: tl.constexpr):
    return tl.maximum(i0 - B + 1, 0)


@triton.jit
def residues(i0, i1, PATTERN: tl.constexpr, A: tl.constexpr):
    """How many residues far blocks have: those of i₀ … i₁ and 0 (slash), or of -7·i₀ … -7·i₁."""
    if PATTERN == SLASH:
        count = tl.minimum(i1 - i0 + 1, A)
        count += ((A - i0 % A) % A >= count).to(tl.int32)  # 0 is not among them
    else:
        PERIOD: tl.constexpr = A // SCATTER.value if A % SCATTER.value == 0 else A
        count = tl.minimum(i1 - i0 + 1, PERIOD)
    return count


@triton.jit
def count_blocks(i0, i1, BLOCKS: tl.constexpr, CAUSAL: tl.constexpr, PATTERN: tl.constexpr, A: tl.constexpr,
                 B: tl.constexpr):  # fmt: skip
    """How many blocks :func:`nth_block` tells, of ``BLOCKS`` blocks of keys."""
    near = first_near(i0, B)
    end = near if CAUSAL else BLOCKS
    far = tl.minimum(end, A) if PATTERN == ASHAPE else residues(i0, i1, PATTERN, A) * ((end + A - 1) // A)
    return i1 - near + 1 + far


@triton.jit
def nth_block(n, i0, i1, BLOCKS: tl.constexpr, PATTERN: tl.constexpr, A: tl.constexpr, B: tl.constexpr):
    """The n-th block, and whether it counts: some do not, being near and far (told as near), or beyond the last one."""
    near = first_near(i0, B)
    far = n - (i1 - near + 1)
    block = near + n
    if PATTERN == ASHAPE:
        block = tl.where(far >= 0, far, block)
    else:
        count = residues(i0, i1, PATTERN, A)
        which = far % count
        if PATTERN == SLASH:
            residue = tl.where(which < tl.minimum(i1 - i0 + 1, A), (i0 + which) % A, 0)
        else:
            residue = (A - SCATTER * (i0 + which) % A) % A
        block = tl.where(far >= 0, far // count * A + residue, block)
    counts = (far < 0) | (block < near) | ((block > i1) & (block < BLOCKS))
    return tl.where(counts, block, i1), counts
