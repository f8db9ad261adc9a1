"""``y[m,n] = Σ_k x[m,k] · W[n,k]`` with weights of 1 … 8 bits: one kernel for every width, format and variant.

A weight's codes are cut along K into blocks of BK = VALUES · KS. Value j of row r of a block is ``k = block·BK + j·KS
+ r``; its VALUES values (of one n and r) lie in WORDS containers, value j from bit ``j · BITS`` on. So every shift is
known when the kernel is compiled, and the activations that meet value j are contiguous. A weight of two planes (6 = 4 +
2 bits, 3 = 2 + 1) keeps the low and the high bits of its codes apart, each plane packed so. Layouts:
:mod:`fettle.backends.triton.lowbit.layouts`.
"""

import triton
import triton.language as tl

from fettle.backends.triton.templates import converted, halfwords
from fettle.backends.triton.templates.codes import PTX, RAW
from fettle.backends.triton.templates.tiles import along

STORE = tl.constexpr(0)
"""Programs own whole tiles of the result, or of one part of a sum."""
ADD = tl.constexpr(1)
"""Programs own equal shares of all blocks of all tiles (stream-K, 2301.03598) and add into a zeroed result."""


@triton.jit
def product(x_ptr, x_scale_ptr, low_ptr, high_ptr, scale_ptr, zero_ptr, tensor_ptr, tile_m, tile_n, first, last, M,
            N: tl.constexpr, K: tl.constexpr, BITS: tl.constexpr, HIGH_BITS: tl.constexpr, VALUES: tl.constexpr,
            WORDS: tl.constexpr, CONTAINER: tl.constexpr, K_CONTIGUOUS: tl.constexpr, KIND: tl.constexpr,
            EXPONENT: tl.constexpr, MANTISSA: tl.constexpr, STEP: tl.constexpr, OFFSET: tl.constexpr,
            SCALE: tl.constexpr, GROUP: tl.constexpr, ZEROS: tl.constexpr, STACK: tl.constexpr, HOW: tl.constexpr,
            LATE: tl.constexpr, SWAP: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
            STAGES: tl.constexpr, PERIOD: tl.constexpr, FACTOR: tl.constexpr, ASSEMBLY: tl.constexpr,
            SHAPE: tl.constexpr, SETTLE: tl.constexpr):  # fmt: skip
    """The blocks first … last-1 of K of one tile of the result, f32: [BM, BN], or [BN, BM] if swapped."""
    if HOW >= PTX:
        acc = halfwords.product(x_ptr, low_ptr, scale_ptr, zero_ptr, tensor_ptr, tile_m, tile_n, first, last, M, N, K,
                                BITS, VALUES, WORDS, K_CONTIGUOUS, STEP, OFFSET, SCALE, GROUP, ZEROS, STACK, HOW == RAW,
                                LATE, SWAP, BM, BN, BK, STAGES, PERIOD, FACTOR, ASSEMBLY, SHAPE, SETTLE)  # fmt: skip
    else:
        acc = converted.product(x_ptr, x_scale_ptr, low_ptr, high_ptr, scale_ptr, zero_ptr, tensor_ptr, tile_m, tile_n,
                                first, last, M, N, K, BITS, HIGH_BITS, VALUES, WORDS, CONTAINER, K_CONTIGUOUS, KIND,
                                EXPONENT, MANTISSA, STEP, OFFSET, SCALE, GROUP, ZEROS, HOW, LATE, SWAP, BM, BN,
                                BK)  # fmt: skip
    return acc


@triton.jit
def matmul(x_ptr, x_scale_ptr, low_ptr, high_ptr, scale_ptr, zero_ptr, tensor_ptr, part_ptr, count_ptr, out_ptr, M,
           N: tl.constexpr, K: tl.constexpr, BITS: tl.constexpr, HIGH_BITS: tl.constexpr, VALUES: tl.constexpr,
           WORDS: tl.constexpr, CONTAINER: tl.constexpr, K_CONTIGUOUS: tl.constexpr, KIND: tl.constexpr,
           EXPONENT: tl.constexpr, MANTISSA: tl.constexpr, STEP: tl.constexpr, OFFSET: tl.constexpr,
           SCALE: tl.constexpr, GROUP: tl.constexpr, ZEROS: tl.constexpr, STACK: tl.constexpr, HOW: tl.constexpr,
           LATE: tl.constexpr, SWAP: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
           STAGES: tl.constexpr, PERIOD: tl.constexpr, FACTOR: tl.constexpr, ASSEMBLY: tl.constexpr,
           SHAPE: tl.constexpr, SETTLE: tl.constexpr, PARTS: tl.constexpr, LAST: tl.constexpr,
           SHARE: tl.constexpr):  # fmt: skip
    """``out[M, N]``: see :func:`run`."""
    run(x_ptr, x_scale_ptr, low_ptr, high_ptr, scale_ptr, zero_ptr, tensor_ptr, part_ptr, count_ptr, out_ptr,
        (out_ptr,), M, N, K, BITS, HIGH_BITS, VALUES, WORDS, CONTAINER, K_CONTIGUOUS, KIND, EXPONENT, MANTISSA, STEP,
        OFFSET, SCALE, GROUP, ZEROS, STACK, HOW, LATE, SWAP, BM, BN, BK, STAGES, PERIOD, FACTOR, ASSEMBLY, SHAPE,
        SETTLE, PARTS, LAST, SHARE, unchanged)  # fmt: skip


@triton.jit
def run(x_ptr, x_scale_ptr, low_ptr, high_ptr, scale_ptr, zero_ptr, tensor_ptr, part_ptr, count_ptr, out_ptr, others, M,
        N: tl.constexpr, K: tl.constexpr, BITS: tl.constexpr, HIGH_BITS: tl.constexpr, VALUES: tl.constexpr,
        WORDS: tl.constexpr, CONTAINER: tl.constexpr, K_CONTIGUOUS: tl.constexpr, KIND: tl.constexpr,
        EXPONENT: tl.constexpr, MANTISSA: tl.constexpr, STEP: tl.constexpr, OFFSET: tl.constexpr, SCALE: tl.constexpr,
        GROUP: tl.constexpr, ZEROS: tl.constexpr, STACK: tl.constexpr, HOW: tl.constexpr, LATE: tl.constexpr,
        SWAP: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, STAGES: tl.constexpr,
        PERIOD: tl.constexpr, FACTOR: tl.constexpr, ASSEMBLY: tl.constexpr, SHAPE: tl.constexpr, SETTLE: tl.constexpr,
        PARTS: tl.constexpr, LAST: tl.constexpr, SHARE: tl.constexpr, FINISH: tl.constexpr):  # fmt: skip
    """One program: a tile of part ``pid_1`` of the sum, or, with a SHARE > 0, so many blocks of one tile after another.

    A whole sum is stored in ``out[M, N]``, a part of one in ``part[PARTS, M, N]``, a share of blocks is added into
    ``part[M, N]``. LAST: the program that is last of a tile's adds its parts, in order, and leaves ``count[tiles]``
    zero, as it was. Whole sums go through FINISH, which may read ``others``, before they are stored. STACK planes of a
    binary-coded weight lie one behind another along K, as :mod:`fettle.backends.triton.lowbit.stacking` has it.
    """
    BLOCKS: tl.constexpr = K // BK * STACK
    TILES_N: tl.constexpr = (N + BN - 1) // BN
    if SHARE == 0:
        tile = tl.program_id(0)
        part = tl.program_id(1)
        acc = product(x_ptr, x_scale_ptr, low_ptr, high_ptr, scale_ptr, zero_ptr, tensor_ptr, tile // TILES_N,
                      tile % TILES_N, part * BLOCKS // PARTS, (part + 1) * BLOCKS // PARTS, M, N, K, BITS, HIGH_BITS,
                      VALUES, WORDS, CONTAINER, K_CONTIGUOUS, KIND, EXPONENT, MANTISSA, STEP, OFFSET, SCALE, GROUP,
                      ZEROS, STACK, HOW, LATE, SWAP, BM, BN, BK, STAGES, PERIOD, FACTOR, ASSEMBLY, SHAPE,
                      SETTLE)  # fmt: skip
        if PARTS == 1:
            result = finished(acc, others, tile // TILES_N, tile % TILES_N, M, N, SWAP, BM, BN, FINISH)
            emit(result, out_ptr, tile // TILES_N, tile % TILES_N, M, N, SWAP, BM, BN, STORE)
        else:
            emit(acc, part_ptr + part * M * N, tile // TILES_N, tile % TILES_N, M, N, SWAP, BM, BN, STORE)
        if LAST:
            tl.debug_barrier()  # all threads of the block have stored before one says so
            arrived = tl.atomic_add(count_ptr + tile, 1, sem="acq_rel")
            if arrived == PARTS - 1:
                tl.store(count_ptr + tile, 0)
                at, mask = places(tile // TILES_N, tile % TILES_N, M, N, SWAP, BM, BN)
                total = tl.zeros(acc.shape, tl.float32)
                for other in range(PARTS):
                    total += tl.load(part_ptr + other * M * N + at, mask=mask, other=0.0, cache_modifier=".cg")
                result = finished(total, others, tile // TILES_N, tile % TILES_N, M, N, SWAP, BM, BN, FINISH)
                emit(result, out_ptr, tile // TILES_N, tile % TILES_N, M, N, SWAP, BM, BN, STORE)
    else:
        at = tl.program_id(0) * SHARE
        end = min(at + SHARE, tl.cdiv(M, BM) * TILES_N * BLOCKS)
        while at < end:
            tile = at // BLOCKS
            first = at % BLOCKS
            last = min(first + end - at, BLOCKS)
            acc = product(x_ptr, x_scale_ptr, low_ptr, high_ptr, scale_ptr, zero_ptr, tensor_ptr, tile // TILES_N,
                          tile % TILES_N, first, last, M, N, K, BITS, HIGH_BITS, VALUES, WORDS, CONTAINER, K_CONTIGUOUS,
                          KIND, EXPONENT, MANTISSA, STEP, OFFSET, SCALE, GROUP, ZEROS, STACK, HOW, LATE, SWAP, BM, BN,
                          BK, STAGES, PERIOD, FACTOR, ASSEMBLY, SHAPE, SETTLE)  # fmt: skip
            emit(acc, part_ptr, tile // TILES_N, tile % TILES_N, M, N, SWAP, BM, BN, ADD)
            at += last - first


@triton.jit
def finished(acc, others, tile_m, tile_n, M, N: tl.constexpr, SWAP: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
             FINISH: tl.constexpr):  # fmt: skip
    """A tile of the result after what is done to each of its elements."""
    at, mask = places(tile_m, tile_n, M, N, SWAP, BM, BN)
    columns = along(tile_n * BN + tl.arange(0, BN), SWAP)
    return FINISH(acc, others, at, mask, columns, N)


@triton.jit
def unchanged(y, others, at, mask, columns, N: tl.constexpr):
    """No epilogue."""
    return y


@triton.jit
def places(tile_m, tile_n, M, N: tl.constexpr, SWAP: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    """Where a tile of the result lies in ``[M, N]``, and what of it is inside."""
    rm = tile_m * BM + tl.arange(0, BM)
    rn = tile_n * BN + tl.arange(0, BN)
    at = along(rm, not SWAP) * N + along(rn, SWAP)
    return at, along(rm < M, not SWAP) & along(rn < N, SWAP)


@triton.jit
def emit(acc, out_ptr, tile_m, tile_n, M, N: tl.constexpr, SWAP: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
         HOW: tl.constexpr):  # fmt: skip
    """Store a tile of the result, or add it to what is there."""
    at, mask = places(tile_m, tile_n, M, N, SWAP, BM, BN)
    if HOW == STORE:
        tl.store(out_ptr + at, acc.to(out_ptr.dtype.element_ty), mask=mask)
    else:
        tl.atomic_add(out_ptr + at, acc, mask=mask, sem="relaxed")


@triton.jit
def quantise(x_ptr, code_ptr, scale_ptr, M, K: tl.constexpr, GROUP: tl.constexpr, BLOCK: tl.constexpr):
    """Activations [M, K] as int8 or fp8, one scale per row and GROUP of k, scales [groups, M]: x ≈ code · scale."""
    row = tl.program_id(0)
    group = tl.program_id(1)
    k = tl.arange(0, BLOCK)
    mask = (k < GROUP) & (group * GROUP + k < K)
    x = tl.load(x_ptr + row * K + group * GROUP + k, mask=mask, other=0.0).to(tl.float32)
    if code_ptr.dtype.element_ty == tl.int8:
        MOST: tl.constexpr = 127.0
    else:
        MOST: tl.constexpr = 448.0
    scale = tl.max(tl.abs(x), 0) / MOST
    code = x / tl.where(scale > 0.0, scale, 1.0)
    if code_ptr.dtype.element_ty == tl.int8:
        code = tl.floor(code + 0.5)
    tl.store(code_ptr + row * K + group * GROUP + k, code.to(code_ptr.dtype.element_ty), mask=mask)
    tl.store(scale_ptr + group * M + row, scale)
