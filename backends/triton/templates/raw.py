"""Products with codes that are never converted: the bits of a weight are multiplied as they lie.

A code c in the lowest mantissa bits of a zero is the number c · 2^-24 in f16 (subnormal, which tensor units multiply at
full speed); in bf16, whose subnormals would leave f32's range, it lies in the mantissa of 128 and is 128 + c. One
``and`` (``lop3``) makes two such numbers; where the mantissa has room, every second code stays ``BITS`` bits further up
and counts 2^BITS as much. Offset, powers of two and scale are taken out of the sums of each group, in f32::

    Σ x·W = scale · (STEP · (2^24 · (Σ_even x·w + 2^-BITS · Σ_odd x·w)) - offset · Σ x)                          f16
    Σ x·W = scale · (STEP · (Σ_even x·w - 128 Σ_even x + 2^-BITS (Σ_odd x·w - 128 Σ_odd x)) - offset · Σ x)      bf16

Sums of x are products with ones, so they lie as the others do. The product of 128 loses some five bits of f32's 24.
"""

import triton
import triton.language as tl

from fettle.backends.triton.templates import ptx
from fettle.backends.triton.templates.scales import PAIRS, along


@triton.jit
def load_halfwords(pointer, offsets, mask, MASKED: tl.constexpr):
    """Words of 16 bits."""
    if MASKED:
        words = tl.load(pointer + offsets, mask=mask, other=0)
    else:
        words = tl.load(pointer + offsets)
    return words


@triton.jit
def fields(words, T: tl.constexpr, BITS: tl.constexpr):
    """The 16 / BITS codes of words of 16 bits as numbers of T, each a tile like ``words``."""
    if T == tl.float16:
        if BITS == 1:
            found = tl.inline_asm_elementwise(ptx.RAW_F16_1, ptx.RAW_SHAPE_1, [words], (tl.float16,) * 16, True, 2)
        elif BITS == 2:
            found = tl.inline_asm_elementwise(ptx.RAW_F16_2, ptx.RAW_SHAPE_2, [words], (tl.float16,) * 8, True, 2)
        elif BITS == 4:
            found = tl.inline_asm_elementwise(ptx.RAW_F16_4, ptx.RAW_SHAPE_4, [words], (tl.float16,) * 4, True, 2)
        else:
            found = tl.inline_asm_elementwise(ptx.RAW_F16_8, ptx.RAW_SHAPE_8, [words], (tl.float16,) * 2, True, 2)
    elif BITS == 1:
        found = tl.inline_asm_elementwise(ptx.RAW_BF16_1, ptx.RAW_SHAPE_1, [words], (tl.bfloat16,) * 16, True, 2)
    elif BITS == 2:
        found = tl.inline_asm_elementwise(ptx.RAW_BF16_2, ptx.RAW_SHAPE_2, [words], (tl.bfloat16,) * 8, True, 2)
    else:
        found = tl.inline_asm_elementwise(ptx.RAW_BF16_4, ptx.RAW_SHAPE_4, [words], (tl.bfloat16,) * 4, True, 2)
    return found


@triton.jit
def multiply(weight, x, total, SWAP: tl.constexpr):
    """``total`` plus the product, the weight being the left operand if swapped."""
    if SWAP:
        result = tl.dot(weight, x, total)
    else:
        result = tl.dot(x, weight, total)
    return result


@triton.jit
def sum_of_codes(even, odd, even_x, odd_x, T: tl.constexpr, BITS: tl.constexpr, TWICE: tl.constexpr):
    """Σ x · code of a plane out of the sums over codes at even and, if TWICE, odd places; else all are even."""
    ODD: tl.constexpr = 1.0 / (1 << BITS)
    if T == tl.float16:
        result = even * 16777216.0
        if TWICE:
            result += odd * (16777216.0 * ODD)
    elif TWICE:
        result = (even - 128.0 * even_x) + (odd - 128.0 * odd_x) * ODD
    else:
        result = even - 128.0 * (even_x + odd_x)
    return result


@triton.jit
def of_group(pointer, block, rn, n_mask, FIRST: tl.constexpr, N: tl.constexpr, GROUP: tl.constexpr, BK: tl.constexpr,
             SCALE: tl.constexpr, SWAP: tl.constexpr, MASKED: tl.constexpr):  # fmt: skip
    """The scales (or zero points) of the group that value FIRST of a block of K is in, f32, along n.

    Those of two groups share a word of 32 bits, which every thread can load ahead; two loads of one word become one.
    """
    if BK % (2 * GROUP) == 0:
        word = block * (BK // GROUP // 2) + FIRST // GROUP // 2
        odd = FIRST // GROUP % 2
    else:
        group = (block * BK + FIRST) // GROUP
        word = group // 2
        odd = group % 2
    if SCALE != PAIRS:
        word = (block * BK + FIRST) // GROUP
    at = pointer + along(word * N + rn, SWAP)
    if MASKED:
        found = tl.load(at, mask=along(n_mask, SWAP), other=0)
    else:
        found = tl.load(at)
    if SCALE == PAIRS:
        found = ((found >> (odd * 16)) & 0xFFFF).to(tl.uint16).to(tl.float16, bitcast=True)
    return found.to(tl.float32)


@triton.jit
def product(x_ptr, low_ptr, high_ptr, scale_ptr, zero_ptr, tile_m, tile_n, first, last, M, N: tl.constexpr,
            K: tl.constexpr, BITS: tl.constexpr, HIGH_BITS: tl.constexpr, VALUES: tl.constexpr,
            K_CONTIGUOUS: tl.constexpr, STEP: tl.constexpr, OFFSET: tl.constexpr, SCALE: tl.constexpr,
            GROUP: tl.constexpr, ZEROS: tl.constexpr, SWAP: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
            BK: tl.constexpr, STAGES: tl.constexpr):  # fmt: skip
    """As :func:`fettle.backends.triton.templates.lowbit.product`; planes of 1, 2, 4 or (f16) 8 bits in words of 16."""
    T: tl.constexpr = x_ptr.dtype.element_ty
    KS: tl.constexpr = BK // VALUES
    SPAN: tl.constexpr = min(GROUP, BK) // KS
    WORD: tl.constexpr = 16
    LOW_WORDS: tl.constexpr = VALUES * BITS // WORD
    HIGH_WORDS: tl.constexpr = VALUES * HIGH_BITS // WORD
    MASKED: tl.constexpr = N % BN != 0
    if T == tl.float16:
        MANTISSA: tl.constexpr = 10
    else:
        MANTISSA: tl.constexpr = 7
    TWICE: tl.constexpr = 2 * BITS <= MANTISSA
    HIGH_TWICE: tl.constexpr = 2 * HIGH_BITS <= MANTISSA
    rm = tile_m * BM + tl.arange(0, BM)
    rn = tile_n * BN + tl.arange(0, BN)
    rk = tl.arange(0, KS)
    m_mask = rm < M
    n_mask = rn < N
    w_mask = along(n_mask, SWAP)
    if K_CONTIGUOUS:
        if SWAP:
            low_at = rn[:, None] * (LOW_WORDS * KS) + rk[None, :]
            high_at = rn[:, None] * (HIGH_WORDS * KS) + rk[None, :]
        else:
            low_at = rk[:, None] + rn[None, :] * (LOW_WORDS * KS)
            high_at = rk[:, None] + rn[None, :] * (HIGH_WORDS * KS)
        word_step: tl.constexpr = KS
    else:
        if SWAP:
            low_at = rn[:, None] + rk[None, :] * N
        else:
            low_at = rk[:, None] * N + rn[None, :]
        high_at = low_at
        word_step: tl.constexpr = KS * N
    if SWAP:
        acc = tl.zeros((BN, BM), tl.float32)
        ones = tl.full((BN, KS), 1.0, T)
        x_at = rm[None, :] * K + rk[:, None]
        x_mask = m_mask[None, :]
    else:
        acc = tl.zeros((BM, BN), tl.float32)
        ones = tl.full((KS, BN), 1.0, T)
        x_at = rm[:, None] * K + rk[None, :]
        x_mask = m_mask[:, None]
    for block in tl.range(first, last, num_stages=STAGES):  # with stages given, scales are loaded ahead, too
        for j in tl.static_range(VALUES):
            k = block * BK + j * KS
            if j % SPAN == 0:
                even = tl.zeros(acc.shape, tl.float32)
                odd = even
                high_even = even
                high_odd = even
                even_x = even
                odd_x = even
            if j % (WORD // BITS) == 0:
                at = block * (LOW_WORDS * KS * N) + j * BITS // WORD * word_step
                low = fields(load_halfwords(low_ptr + at, low_at, w_mask, MASKED), T, BITS)
            x = tl.load(x_ptr + x_at + k, mask=x_mask, other=0.0)
            if TWICE and j % 2 == 1:
                odd = multiply(low[j % (WORD // BITS)], x, odd, SWAP)
            else:
                even = multiply(low[j % (WORD // BITS)], x, even, SWAP)
            if HIGH_BITS > 0:
                if j % (WORD // HIGH_BITS) == 0:
                    at = block * (HIGH_WORDS * KS * N) + j * HIGH_BITS // WORD * word_step
                    high = fields(load_halfwords(high_ptr + at, high_at, w_mask, MASKED), T, HIGH_BITS)
                if HIGH_TWICE and j % 2 == 1:
                    high_odd = multiply(high[j % (WORD // HIGH_BITS)], x, high_odd, SWAP)
                else:
                    high_even = multiply(high[j % (WORD // HIGH_BITS)], x, high_even, SWAP)
            if T == tl.bfloat16 and j % 2 == 1:
                odd_x = multiply(ones, x, odd_x, SWAP)
            else:
                even_x = multiply(ones, x, even_x, SWAP)
            if j % SPAN == SPAN - 1:
                total = sum_of_codes(even, odd, even_x, odd_x, T, BITS, TWICE)
                if HIGH_BITS > 0:
                    high_total = sum_of_codes(high_even, high_odd, even_x, odd_x, T, HIGH_BITS, HIGH_TWICE)
                    total += high_total * (1 << BITS)
                if ZEROS:
                    zero = of_group(zero_ptr, block, rn, n_mask, j * KS, N, GROUP, BK, PAIRS, SWAP, MASKED)
                    total -= zero * (even_x + odd_x)
                else:
                    total = total * STEP - OFFSET * (even_x + odd_x)
                acc += total * of_group(scale_ptr, block, rn, n_mask, j * KS, N, GROUP, BK, SCALE, SWAP, MASKED)
    return acc
