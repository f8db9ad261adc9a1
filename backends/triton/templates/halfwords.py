"""Products with codes in words of 16 bits, taken out by inline PTX (:mod:`fettle.backends.triton.lowbit.spread`).

``ptx``: codes become exact numbers, and all those of a block (late scales: of a group) make one operand of one product.

``raw``: the bits are multiplied as they lie, which takes one ``and`` (``lop3``) for two weights. A code c at place p
is the number c · 2^(p - 24) in f16 (subnormal, which tensor units multiply at full speed); in bf16, whose subnormals
would leave f32's range, it is 128 + c · 2^p. Offset, powers of two and scale are taken out of the sums of each group,
in f32::

    Σ x·W = scale · (STEP · Σ_p 2^(24 - p) · Σ x·w - offset · Σ x)                                  f16
    Σ x·W = scale · (STEP · Σ_p 2^-p · (Σ x·w - 128 Σ x) - offset · Σ x)         inner sums at place p, bf16

Sums of x are products with ones, so they lie as the others do. The product of 128 loses some five bits of f32's 24.
"""

import triton
import triton.language as tl

from fettle.backends.triton.templates.scales import E4M3, HALF, folded_scale, packed_scale
from fettle.backends.triton.templates.tiles import along, first_words, load_x, multiply, zeros

# pairs by name: left to the assembler, halves are counted one by one, and on sm_80 bf16 has no other instructions
F16_MULTIPLY = tl.constexpr("{ .reg .b32 z; mov.b32 z, 0x80008000; fma.rn.f16x2 $0, $1, $2, z; }")
F16_SUBTRACT = tl.constexpr("{ .reg .b32 n; mov.b32 n, 0xbc00bc00; fma.rn.f16x2 $0, $2, n, $1; }")
BF16_MULTIPLY = tl.constexpr("{ .reg .b32 z; mov.b32 z, 0x80008000; fma.rn.bf16x2 $0, $1, $2, z; }")
BF16_SUBTRACT = tl.constexpr("{ .reg .b32 n; mov.b32 n, 0xbf80bf80; fma.rn.bf16x2 $0, $2, n, $1; }")


@triton.jit
def paired(value, other, F16_ASSEMBLY: tl.constexpr, BF16_ASSEMBLY: tl.constexpr):
    """A tile of halves with a row or a column of others, in pairs."""
    other = tl.broadcast_to(other.to(value.dtype), value.shape)
    if value.dtype == tl.float16:
        result = tl.inline_asm_elementwise(F16_ASSEMBLY, "=r,r,r", [value, other], tl.float16, True, 2)
    else:
        result = tl.inline_asm_elementwise(BF16_ASSEMBLY, "=r,r,r", [value, other], tl.bfloat16, True, 2)
    return result


@triton.jit
def load_run(pointer, offsets, mask, MASKED: tl.constexpr, WORDS: tl.constexpr, STEP: tl.constexpr):
    """The words of each run, as a tuple of tiles."""
    words = ()
    for word in tl.static_range(WORDS):
        if MASKED:
            found = tl.load(pointer + word * STEP + offsets, mask=mask, other=0)
        else:
            found = tl.load(pointer + word * STEP + offsets)
        words = words + (found,)  # noqa: RUF005 - Triton has no stars
    return words


@triton.jit
def interleaved(tiles, FIRST: tl.constexpr, STRIDE: tl.constexpr, COUNT: tl.constexpr):
    """The tiles FIRST, FIRST + STRIDE … along new last axes of two each, whose index read as a number is theirs."""
    if COUNT == 1:
        result = tiles[FIRST]
    else:
        result = tl.join(
            interleaved(tiles, FIRST, 2 * STRIDE, COUNT // 2),
            interleaved(tiles, FIRST + STRIDE, 2 * STRIDE, COUNT // 2),
        )
    return result


@triton.jit
def side_by_side(tiles, FIRST: tl.constexpr, COUNT: tl.constexpr, SWAP: tl.constexpr):
    """COUNT tiles one after another along K, which costs nothing: each thread has what it needs of each."""
    A: tl.constexpr = tiles[0].shape[0]
    B: tl.constexpr = tiles[0].shape[1]
    stacked = tl.reshape(interleaved(tiles, FIRST, 1, COUNT), (A, B, COUNT))
    if SWAP:
        result = tl.reshape(tl.permute(stacked, (0, 2, 1)), (A, COUNT * B))
    else:
        result = tl.reshape(tl.permute(stacked, (2, 0, 1)), (COUNT * A, B))
    return result


@triton.jit
def settled(sums):
    """Sums that are used, and so waited for, in the pass that began them.

    Others fly on into the next pass. The assembler cannot follow that over a loop's edge: it has each instruction
    of a product wait for the one before (its note C7515).
    """
    return tl.inline_asm_elementwise("mov.b32 $0, $1;", "=f,f", [sums], tl.float32, True, 1)


@triton.jit
def product(x_ptr, word_ptr, scale_ptr, zero_ptr, tensor_ptr, tile_m, tile_n, first, last, M, N: tl.constexpr,
            K: tl.constexpr, BITS: tl.constexpr, VALUES: tl.constexpr, WORDS: tl.constexpr, K_CONTIGUOUS: tl.constexpr,
            STEP: tl.constexpr, OFFSET: tl.constexpr, SCALE: tl.constexpr, GROUP: tl.constexpr, ZEROS: tl.constexpr,
            STACK: tl.constexpr, IS_RAW: tl.constexpr, LATE: tl.constexpr, SWAP: tl.constexpr, BM: tl.constexpr,
            BN: tl.constexpr, BK: tl.constexpr, STAGES: tl.constexpr, PERIOD: tl.constexpr, FACTOR: tl.constexpr,
            ASSEMBLY: tl.constexpr, SHAPE: tl.constexpr, SETTLE: tl.constexpr):  # fmt: skip
    """As :func:`fettle.backends.triton.templates.lowbit.product`."""
    T: tl.constexpr = x_ptr.dtype.element_ty
    KS: tl.constexpr = BK // VALUES
    SPAN: tl.constexpr = min(GROUP, BK) // KS  # runs' codes that share a scale
    ROWS: tl.constexpr = LATE and not IS_RAW and GROUP >= K and STACK == 1  # one scale a row: applied to whole sums
    PIECE: tl.constexpr = max(GROUP // BK, 1)  # blocks that each plane has in turn
    FOLDED: tl.constexpr = SCALE == E4M3 and not LATE and FACTOR != 1.0
    MASKED: tl.constexpr = N % BN != 0
    rm = tile_m * BM + tl.arange(0, BM)
    rn = tile_n * BN + tl.arange(0, BN)
    rk = tl.arange(0, KS)
    n_mask = rn < N
    w_mask = along(n_mask, SWAP)
    at = first_words(rn, rk, N, WORDS * KS, K_CONTIGUOUS, SWAP)
    STRIDE: tl.constexpr = KS if K_CONTIGUOUS else KS * N
    acc = zeros(BM, BN, SWAP)
    for block in tl.range(first, last, num_stages=STAGES):  # with stages given, scales are loaded ahead, too
        if STACK > 1:
            k = (block // (STACK * PIECE) * PIECE + block % PIECE) * BK
        else:
            k = block * BK
        words = load_run(word_ptr + block * (WORDS * KS * N), at, w_mask, MASKED, WORDS, STRIDE)
        if T == tl.float16:
            codes = tl.inline_asm_elementwise(ASSEMBLY, SHAPE, words, (tl.float16,) * VALUES, True, 2)
        else:
            codes = tl.inline_asm_elementwise(ASSEMBLY, SHAPE, words, (tl.bfloat16,) * VALUES, True, 2)
        if IS_RAW:
            for j in tl.static_range(0, VALUES, SPAN):
                acc += of_raw_group(codes, x_ptr, scale_ptr, zero_ptr, rm, rn, n_mask, block, k, j, M, N, K,
                                    BITS, VALUES, STEP, OFFSET, SCALE, GROUP, ZEROS, SWAP, MASKED, BM, BN, BK, SPAN,
                                    PERIOD)  # fmt: skip
        else:
            groups = ()
            for j in tl.static_range(0, VALUES, SPAN):
                value = side_by_side(codes, j, SPAN, SWAP)
                if ZEROS:
                    zero = packed_scale(zero_ptr, block, rn, n_mask, j * KS, N, GROUP, BK, HALF, SWAP,
                                        MASKED)  # fmt: skip
                    value = paired(value, zero, F16_SUBTRACT, BF16_SUBTRACT)
                if FOLDED:
                    scale = folded_scale(scale_ptr, block, rn, n_mask, j * KS, T, N, GROUP, BK, SWAP, MASKED)
                elif not ROWS:
                    scale = packed_scale(scale_ptr, block, rn, n_mask, j * KS, N, GROUP, BK, SCALE, SWAP,
                                         MASKED)  # fmt: skip
                if not LATE:
                    groups = groups + (paired(value, scale, F16_MULTIPLY, BF16_MULTIPLY),)  # noqa: RUF005
                elif ROWS:
                    groups = groups + (value,)  # noqa: RUF005
                else:
                    x = load_x(x_ptr, rm, k + j * KS, M, K, SPAN * KS, SWAP)
                    total = multiply(value, x, tl.zeros(acc.shape, tl.float32), SWAP)
                    acc += total * scale
            if ROWS or not LATE:
                x = load_x(x_ptr, rm, k, M, K, BK, SWAP)
                acc = multiply(side_by_side(groups, 0, VALUES // SPAN, SWAP), x, acc, SWAP)
                if SETTLE:
                    acc = settled(acc)
    if ROWS:
        acc *= packed_scale(scale_ptr, 0, rn, n_mask, 0, N, GROUP, BK, SCALE, SWAP, MASKED)
    if FACTOR != 1.0:
        acc *= FACTOR
    if SCALE == E4M3:
        acc *= tl.load(tensor_ptr)
    return acc


@triton.jit
def of_raw_group(codes, x_ptr, scale_ptr, zero_ptr, rm, rn, n_mask, block, k, FIRST: tl.constexpr, M,
                 N: tl.constexpr, K: tl.constexpr, BITS: tl.constexpr, VALUES: tl.constexpr, STEP: tl.constexpr,
                 OFFSET: tl.constexpr, SCALE: tl.constexpr, GROUP: tl.constexpr, ZEROS: tl.constexpr,
                 SWAP: tl.constexpr, MASKED: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
                 SPAN: tl.constexpr, PERIOD: tl.constexpr):  # fmt: skip
    """What the codes FIRST … FIRST+SPAN-1 of a block's runs, all of one group, add to a tile; the block begins at k."""
    T: tl.constexpr = x_ptr.dtype.element_ty
    KS: tl.constexpr = BK // VALUES
    WORD: tl.constexpr = 16
    A_WORD: tl.constexpr = WORD // BITS
    WHOLE: tl.constexpr = VALUES * BITS // WORD * A_WORD  # so many codes lie in words, the others were put together
    nothing = zeros(BM, BN, SWAP)
    ones = tl.full(codes[0].shape, 1.0, T)
    sum_0, sum_1, sum_2 = nothing, nothing, nothing
    x_0, x_1, x_2 = nothing, nothing, nothing
    for j in tl.static_range(FIRST, FIRST + SPAN):
        x = load_x(x_ptr, rm, k + j * KS, M, K, KS, SWAP)
        if j >= WHOLE or j % A_WORD * BITS % PERIOD == 0:
            sum_0 = multiply(codes[j], x, sum_0, SWAP)
            x_0 = multiply(ones, x, x_0, SWAP)
        elif j % A_WORD * BITS % PERIOD == BITS:
            sum_1 = multiply(codes[j], x, sum_1, SWAP)
            if T == tl.float16:
                x_0 = multiply(ones, x, x_0, SWAP)
            else:
                x_1 = multiply(ones, x, x_1, SWAP)
        else:
            sum_2 = multiply(codes[j], x, sum_2, SWAP)
            if T == tl.float16:
                x_0 = multiply(ones, x, x_0, SWAP)
            else:
                x_2 = multiply(ones, x, x_2, SWAP)
    if T == tl.float16:
        FACTOR: tl.constexpr = 16777216.0
        total = FACTOR * sum_0
    else:
        FACTOR: tl.constexpr = 1.0
        total = sum_0 - 128.0 * x_0
    if PERIOD > BITS:
        if T == tl.bfloat16:
            sum_1 -= 128.0 * x_1
        total += sum_1 * (FACTOR / (1 << BITS))
    if PERIOD > 2 * BITS:
        if T == tl.bfloat16:
            sum_2 -= 128.0 * x_2
        total += sum_2 * (FACTOR / (1 << 2 * BITS))
    sum_x = x_0 + x_1 + x_2
    if ZEROS:
        zero = packed_scale(zero_ptr, block, rn, n_mask, FIRST * KS, N, GROUP, BK, HALF, SWAP, MASKED)
        total -= zero * sum_x
    else:
        total = total * STEP - OFFSET * sum_x
    return total * packed_scale(scale_ptr, block, rn, n_mask, FIRST * KS, N, GROUP, BK, SCALE, SWAP,
                                MASKED)  # fmt: skip
