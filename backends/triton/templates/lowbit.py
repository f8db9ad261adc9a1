"""``y[m,n] = Σ_k x[m,k] · W[n,k]`` with weights of 1 … 8 bits: one kernel for every width, format and variant.

A weight's codes are cut along K into blocks of BK = VALUES · KS. Value j of row r of a block is ``k = block·BK + j·KS
+ r``; its VALUES values (of one n and r) lie in WORDS containers, value j from bit ``j · BITS`` on. So every shift is
known when the kernel is compiled, and the activations that meet value j are contiguous. A weight of two planes (6 = 4 +
2 bits, 3 = 2 + 1) keeps the low and the high bits of its codes apart, each plane packed so. Layouts:
:mod:`fettle.backends.triton.lowbit.layouts`.
"""

import triton
import triton.language as tl

from fettle.backends.triton.templates import halfwords
from fettle.backends.triton.templates.codes import (
    BINARY_CODED,
    FLOAT,
    INTEGER,
    PTX,
    RAW,
    float_value,
    integer_value,
    load_words,
)
from fettle.backends.triton.templates.scales import HALF, along, scale_of

STORE = tl.constexpr(0)
"""Programs own whole tiles of the result, or of one part of a sum."""
ADD = tl.constexpr(1)
"""Programs own equal shares of all blocks of all tiles (stream-K, 2301.03598) and add into a zeroed result."""


@triton.jit
def product(x_ptr, x_scale_ptr, low_ptr, high_ptr, scale_ptr, zero_ptr, tensor_ptr, tile_m, tile_n, first, last, M,
            N: tl.constexpr, K: tl.constexpr, BITS: tl.constexpr, HIGH_BITS: tl.constexpr, VALUES: tl.constexpr,
            WORDS: tl.constexpr, CONTAINER: tl.constexpr, K_CONTIGUOUS: tl.constexpr, KIND: tl.constexpr,
            EXPONENT: tl.constexpr, MANTISSA: tl.constexpr, STEP: tl.constexpr, OFFSET: tl.constexpr,
            SCALE: tl.constexpr, GROUP: tl.constexpr, ZEROS: tl.constexpr, HOW: tl.constexpr, LATE: tl.constexpr,
            SWAP: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, STAGES: tl.constexpr,
            PERIOD: tl.constexpr, FACTOR: tl.constexpr, ASSEMBLY: tl.constexpr, SHAPE: tl.constexpr):  # fmt: skip
    """The blocks first … last-1 of K of one tile of the result, f32: [BM, BN], or [BN, BM] if swapped."""
    if HOW >= PTX:
        acc = halfwords.product(x_ptr, low_ptr, scale_ptr, zero_ptr, tensor_ptr, tile_m, tile_n, first, last, M, N, K,
                                BITS, VALUES, WORDS, K_CONTIGUOUS, STEP, OFFSET, SCALE, GROUP, ZEROS, HOW == RAW, LATE,
                                SWAP, BM, BN, BK, STAGES, PERIOD, FACTOR, ASSEMBLY, SHAPE)  # fmt: skip
    else:
        acc = converted(x_ptr, x_scale_ptr, low_ptr, high_ptr, scale_ptr, zero_ptr, tensor_ptr, tile_m, tile_n, first,
                        last, M, N, K, BITS, HIGH_BITS, VALUES, WORDS, CONTAINER, K_CONTIGUOUS, KIND, EXPONENT,
                        MANTISSA, STEP, OFFSET, SCALE, GROUP, ZEROS, HOW, LATE, SWAP, BM, BN, BK)  # fmt: skip
    return acc


@triton.jit
def converted(x_ptr, x_scale_ptr, low_ptr, high_ptr, scale_ptr, zero_ptr, tensor_ptr, tile_m, tile_n, first, last, M,
              N: tl.constexpr, K: tl.constexpr, BITS: tl.constexpr, HIGH_BITS: tl.constexpr, VALUES: tl.constexpr,
              WORDS: tl.constexpr, CONTAINER: tl.constexpr, K_CONTIGUOUS: tl.constexpr, KIND: tl.constexpr,
              EXPONENT: tl.constexpr, MANTISSA: tl.constexpr, STEP: tl.constexpr, OFFSET: tl.constexpr,
              SCALE: tl.constexpr, GROUP: tl.constexpr, ZEROS: tl.constexpr, HOW: tl.constexpr, LATE: tl.constexpr,
              SWAP: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):  # fmt: skip
    """As :func:`product`: codes become values of the activations' type, one by one, before they are multiplied."""
    T: tl.constexpr = x_ptr.dtype.element_ty
    KS: tl.constexpr = BK // VALUES
    ROW: tl.constexpr = WORDS * KS
    MASKED: tl.constexpr = N % BN != 0
    ALL_BITS: tl.constexpr = BITS + HIGH_BITS
    PLANES: tl.constexpr = BITS if KIND == BINARY_CODED else 1
    rm = tile_m * BM + tl.arange(0, BM)
    rn = tile_n * BN + tl.arange(0, BN)
    rk = tl.arange(0, KS)
    m_mask = rm < M
    n_mask = rn < N
    if K_CONTIGUOUS:
        if SWAP:
            at = rn[:, None] * ROW + rk[None, :]
            high_at = rn[:, None] * KS + rk[None, :]
        else:
            at = rk[:, None] + rn[None, :] * ROW
            high_at = rk[:, None] + rn[None, :] * KS
        word_step: tl.constexpr = KS
    else:
        if SWAP:
            at = rn[:, None] + rk[None, :] * N
        else:
            at = rk[:, None] * N + rn[None, :]
        high_at = at
        word_step: tl.constexpr = KS * N
    if SWAP:
        acc = tl.zeros((BN, BM), tl.float32)
        x_at = rm[None, :] * K + rk[:, None]
        x_mask = m_mask[None, :]
    else:
        acc = tl.zeros((BM, BN), tl.float32)
        x_at = rm[:, None] * K + rk[None, :]
        x_mask = m_mask[:, None]
    w_mask = along(n_mask, SWAP)
    # a late scale is applied once to the sum of all values of a group that follow one another in a block
    WHOLE_GROUPS: tl.constexpr = GROUP >= K or GROUP % BK == 0 or (BK % GROUP == 0 and GROUP % KS == 0)
    SPAN: tl.constexpr = min(GROUP, BK) // KS if WHOLE_GROUPS else 1
    if T == tl.int8:
        SUM: tl.constexpr = tl.int32
    else:
        SUM: tl.constexpr = tl.float32
    for block in range(first, last):
        base = low_ptr + block * (ROW * N)
        words = load_words(base, at, w_mask, MASKED, CONTAINER)
        if HIGH_BITS > 0:
            high_words = load_words(high_ptr + block * (KS * N), high_at, w_mask, MASKED, 8 * HIGH_BITS)
        for j in tl.static_range(VALUES):
            k = block * BK + j * KS
            # the code: its containers follow one another, and it may straddle two
            if j > 0 and j * BITS % CONTAINER == 0:
                words = load_words(base + j * BITS // CONTAINER * word_step, at, w_mask, MASKED, CONTAINER)
            code = words >> (j * BITS % CONTAINER)
            if j * BITS % CONTAINER + BITS > CONTAINER:
                words = load_words(base + (j * BITS // CONTAINER + 1) * word_step, at, w_mask, MASKED, CONTAINER)
                code = code | (words << (CONTAINER - j * BITS % CONTAINER))
            code = (code & ((1 << BITS) - 1)).to(tl.int32, bitcast=True)
            if HIGH_BITS > 0:
                high = (high_words >> (j * HIGH_BITS)) & ((1 << HIGH_BITS) - 1)
                code = code | (high.to(tl.int32, bitcast=True) << BITS)
            if KIND == FLOAT:
                value = float_value(code, T, ALL_BITS, EXPONENT, MANTISSA)
            elif KIND == INTEGER and ZEROS:
                value = integer_value(code, T, ALL_BITS, 1, 0, HOW)
            elif KIND == INTEGER:
                value = integer_value(code, T, ALL_BITS, STEP, OFFSET, HOW)
            if ZEROS:
                zero = scale_of(zero_ptr, tensor_ptr, k, rk, rn, n_mask, 0, N, K, KS, GROUP, 1, HALF, SWAP, MASKED)
                value = value - zero.to(T)
            x = tl.load(x_ptr + x_at + k, mask=x_mask, other=0.0)
            if KIND == BINARY_CODED:
                total = tl.zeros(code.shape, tl.float32)
                for plane in tl.static_range(PLANES):
                    scale = scale_of(scale_ptr, tensor_ptr, k, rk, rn, n_mask, plane, N, K, KS, GROUP, PLANES, SCALE,
                                     SWAP, MASKED)  # fmt: skip
                    total += (((code >> plane) & 1) * 2 - 1).to(tl.float32) * scale.to(tl.float32)
                value = total.to(T)
            else:
                scale = scale_of(scale_ptr, tensor_ptr, k, rk, rn, n_mask, 0, N, K, KS, GROUP, 1, SCALE, SWAP, MASKED)
                if not LATE:
                    if scale.dtype == T:
                        value = value * scale
                    else:
                        value = (value.to(tl.float32) * scale.to(tl.float32)).to(T)
            if LATE and KIND != BINARY_CODED:
                if j % SPAN == 0:
                    part = tl.zeros(acc.shape, SUM)
                if SWAP:
                    part = tl.dot(value, x, part, out_dtype=SUM)
                else:
                    part = tl.dot(x, value, part, out_dtype=SUM)
                if j % SPAN == SPAN - 1:
                    total = part.to(tl.float32) * scale.to(tl.float32)
                    if T == tl.int8 or T == tl.float8e4nv:
                        x_scale = tl.load(x_scale_ptr + k // GROUP * M + rm, mask=m_mask, other=0.0)
                        if SWAP:
                            total = total * x_scale[None, :]
                        else:
                            total = total * x_scale[:, None]
                    acc += total
            elif SWAP:
                acc = tl.dot(value, x, acc)
            else:
                acc = tl.dot(x, value, acc)
    return acc


@triton.jit
def matmul(x_ptr, x_scale_ptr, low_ptr, high_ptr, scale_ptr, zero_ptr, tensor_ptr, part_ptr, count_ptr, out_ptr, M,
           N: tl.constexpr, K: tl.constexpr, BITS: tl.constexpr, HIGH_BITS: tl.constexpr, VALUES: tl.constexpr,
           WORDS: tl.constexpr, CONTAINER: tl.constexpr, K_CONTIGUOUS: tl.constexpr, KIND: tl.constexpr,
           EXPONENT: tl.constexpr, MANTISSA: tl.constexpr, STEP: tl.constexpr, OFFSET: tl.constexpr,
           SCALE: tl.constexpr, GROUP: tl.constexpr, ZEROS: tl.constexpr, HOW: tl.constexpr, LATE: tl.constexpr,
           SWAP: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, STAGES: tl.constexpr,
           PERIOD: tl.constexpr, FACTOR: tl.constexpr, ASSEMBLY: tl.constexpr, SHAPE: tl.constexpr,
           PARTS: tl.constexpr, LAST: tl.constexpr, SHARE: tl.constexpr):  # fmt: skip
    """One program: a tile of part ``pid_1`` of the sum, or, with a SHARE > 0, so many blocks of one tile after another.

    A whole sum is stored in ``out[M, N]``, a part of one in ``part[PARTS, M, N]``, a share of blocks is added into
    ``part[M, N]``. LAST: the program that is last of a tile's adds its parts, in order, and leaves ``count[tiles]``
    zero, as it was.
    """
    BLOCKS: tl.constexpr = K // BK
    TILES_N: tl.constexpr = (N + BN - 1) // BN
    if SHARE == 0:
        tile = tl.program_id(0)
        part = tl.program_id(1)
        acc = product(x_ptr, x_scale_ptr, low_ptr, high_ptr, scale_ptr, zero_ptr, tensor_ptr, tile // TILES_N,
                      tile % TILES_N, part * BLOCKS // PARTS, (part + 1) * BLOCKS // PARTS, M, N, K, BITS, HIGH_BITS,
                      VALUES, WORDS, CONTAINER, K_CONTIGUOUS, KIND, EXPONENT, MANTISSA, STEP, OFFSET, SCALE, GROUP,
                      ZEROS, HOW, LATE, SWAP, BM, BN, BK, STAGES, PERIOD, FACTOR, ASSEMBLY, SHAPE)  # fmt: skip
        if PARTS == 1:
            emit(acc, out_ptr, tile // TILES_N, tile % TILES_N, M, N, SWAP, BM, BN, STORE)
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
                emit(total, out_ptr, tile // TILES_N, tile % TILES_N, M, N, SWAP, BM, BN, STORE)
    else:
        at = tl.program_id(0) * SHARE
        end = min(at + SHARE, tl.cdiv(M, BM) * TILES_N * BLOCKS)
        while at < end:
            tile = at // BLOCKS
            first = at % BLOCKS
            last = min(first + end - at, BLOCKS)
            acc = product(x_ptr, x_scale_ptr, low_ptr, high_ptr, scale_ptr, zero_ptr, tensor_ptr, tile // TILES_N,
                          tile % TILES_N, first, last, M, N, K, BITS, HIGH_BITS, VALUES, WORDS, CONTAINER,
                          K_CONTIGUOUS, KIND, EXPONENT, MANTISSA, STEP, OFFSET, SCALE, GROUP, ZEROS, HOW, LATE, SWAP,
                          BM, BN, BK, STAGES, PERIOD, FACTOR, ASSEMBLY, SHAPE)  # fmt: skip
            emit(acc, part_ptr, tile // TILES_N, tile % TILES_N, M, N, SWAP, BM, BN, ADD)
            at += last - first


@triton.jit
def places(tile_m, tile_n, M, N: tl.constexpr, SWAP: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    """Where a tile of the result lies in ``[M, N]``, and what of it is inside."""
    rm = tile_m * BM + tl.arange(0, BM)
    rn = tile_n * BN + tl.arange(0, BN)
    if SWAP:
        at = rm[None, :] * N + rn[:, None]
        mask = (rm < M)[None, :] & (rn < N)[:, None]
    else:
        at = rm[:, None] * N + rn[None, :]
        mask = (rm < M)[:, None] & (rn < N)[None, :]
    return at, mask


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
