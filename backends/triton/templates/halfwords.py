"""Products with codes in words of 16 bits, taken out by inline PTX (:mod:`fettle.backends.triton.lowbit.spread`).

``ptx``: codes become exact numbers, and all those of a block (late scales: of a group) make one operand of one product.

``raw``: the bits are multiplied as they lie, which takes one ``and`` (``lop3``) for two weights. A code c at place p
is the number c · 2^(p - 24) in f16 (subnormal, which tensor units multiply at full speed); in bf16, whose subnormals
would leave f32's range, it is 128 + c · 2^p. Offset, powers of two and scale are taken out of the sums of each group,
in f32::

    Σ x·W = scale · (step · Σ_p 2^(24 - p) · Σ x·w - offset · Σ x)                                  f16
    Σ x·W = scale · (step · Σ_p 2^-p · (Σ x·w - 128 Σ x) - offset · Σ x)         inner sums at place p, bf16

Sums of x are products with ones, so they lie as the others do. The product of 128 loses some five bits of f32's 24.
"""

import triton
import triton.language as tl

from fettle.backends.triton.templates.codes import RAW
from fettle.backends.triton.templates.scales import E4M3, E8M0, HALF, folded_scale, packed_scale
from fettle.backends.triton.templates.tiles import along, first_words, load_x, multiply, origin, zeros

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
def load_run(pointer, offsets, mask, C: tl.constexpr):
    """The words of each run, as a tuple of tiles."""
    STRIDE: tl.constexpr = C.block_k // C.values if C.k_contiguous else C.block_k // C.values * C.n
    words = ()
    for word in tl.static_range(C.words):
        if C.n % C.block_n != 0:
            found = tl.load(pointer + word * STRIDE + offsets, mask=mask, other=0)
        else:
            found = tl.load(pointer + word * STRIDE + offsets)
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
def product(x_ptr, word_ptr, scale_ptr, zero_ptr, tensor_ptr, tile, first, last, M, C: tl.constexpr):
    """As :func:`fettle.backends.triton.templates.lowbit.product`."""
    T: tl.constexpr = x_ptr.dtype.element_ty
    KS: tl.constexpr = C.block_k // C.values
    SPAN: tl.constexpr = min(C.group, C.block_k) // KS  # runs' codes that share a scale
    # one scale a row is applied to whole sums
    ROWS: tl.constexpr = C.late and C.how != RAW and C.group >= C.k and C.stack == 1
    PIECE: tl.constexpr = max(C.group // C.block_k, 1)  # blocks that each plane has in turn
    FOLDED: tl.constexpr = not C.late and (
        (C.scale == E4M3 and C.factor != 1.0) or (C.scale == E8M0 and T == tl.bfloat16)
    )
    m, n = origin(tile, C)
    rm = m + tl.arange(0, C.block_m)
    rn = n + tl.arange(0, C.block_n)
    n_mask = rn < C.n
    at = first_words(rn, tl.arange(0, KS), C.words * KS, C)
    acc = zeros(tl.float32, C)
    for block in tl.range(first, last, num_stages=C.stages):  # with stages given, scales are loaded ahead, too
        if C.stack > 1:
            k = (block // (C.stack * PIECE) * PIECE + block % PIECE) * C.block_k
        else:
            k = block * C.block_k
        words = load_run(word_ptr + block * (C.words * KS * C.n), at, along(n_mask, C.swap), C)
        if T == tl.float16:
            codes = tl.inline_asm_elementwise(C.assembly, C.shape, words, (tl.float16,) * C.values, True, 2)
        else:
            codes = tl.inline_asm_elementwise(C.assembly, C.shape, words, (tl.bfloat16,) * C.values, True, 2)
        if C.how == RAW:
            for j in tl.static_range(0, C.values, SPAN):
                acc += of_raw_group(codes, x_ptr, scale_ptr, zero_ptr, rm, rn, n_mask, block, k, M, j, C)
        else:
            groups = ()
            for j in tl.static_range(0, C.values, SPAN):
                value = side_by_side(codes, j, SPAN, C.swap)
                if C.zeros:
                    zero = packed_scale(zero_ptr, block, rn, n_mask, j * KS, HALF, C)
                    value = paired(value, zero, F16_SUBTRACT, BF16_SUBTRACT)
                if FOLDED:
                    scale = folded_scale(scale_ptr, block, rn, n_mask, j * KS, T, C)
                elif not ROWS:
                    scale = packed_scale(scale_ptr, block, rn, n_mask, j * KS, C.scale, C)
                if not C.late:
                    groups = groups + (paired(value, scale, F16_MULTIPLY, BF16_MULTIPLY),)  # noqa: RUF005
                elif ROWS:
                    groups = groups + (value,)  # noqa: RUF005
                else:
                    x = load_x(x_ptr, rm, k + j * KS, M, SPAN * KS, C)
                    total = multiply(value, x, tl.zeros(acc.shape, tl.float32), C)
                    acc += total * scale
            if ROWS or not C.late:
                x = load_x(x_ptr, rm, k, M, C.block_k, C)
                acc = multiply(side_by_side(groups, 0, C.values // SPAN, C.swap), x, acc, C)
                if C.settle:
                    acc = settled(acc)
    if ROWS:
        acc *= packed_scale(scale_ptr, 0, rn, n_mask, 0, C.scale, C)
    if C.factor != 1.0:
        acc *= C.factor
    if C.scale == E4M3:
        acc *= tl.load(tensor_ptr)
    return acc


@triton.jit
def of_raw_group(codes, x_ptr, scale_ptr, zero_ptr, rm, rn, n_mask, block, k, M, FIRST: tl.constexpr,
                 C: tl.constexpr):  # fmt: skip
    """What the codes of a block's runs from FIRST on that share a scale add to a tile; the block begins at k."""
    T: tl.constexpr = x_ptr.dtype.element_ty
    KS: tl.constexpr = C.block_k // C.values
    SPAN: tl.constexpr = min(C.group, C.block_k) // KS
    WORD: tl.constexpr = 16
    A_WORD: tl.constexpr = WORD // C.bits
    WHOLE: tl.constexpr = C.words * A_WORD  # so many codes lie in words, the others were put together
    nothing = zeros(tl.float32, C)
    ones = tl.full(codes[0].shape, 1.0, T)
    sum_0, sum_1, sum_2 = nothing, nothing, nothing
    x_0, x_1, x_2 = nothing, nothing, nothing
    for j in tl.static_range(FIRST, FIRST + SPAN):
        x = load_x(x_ptr, rm, k + j * KS, M, KS, C)
        if j >= WHOLE or j % A_WORD * C.bits % C.period == 0:
            sum_0 = multiply(codes[j], x, sum_0, C)
            x_0 = multiply(ones, x, x_0, C)
        elif j % A_WORD * C.bits % C.period == C.bits:
            sum_1 = multiply(codes[j], x, sum_1, C)
            if T == tl.float16:
                x_0 = multiply(ones, x, x_0, C)
            else:
                x_1 = multiply(ones, x, x_1, C)
        else:
            sum_2 = multiply(codes[j], x, sum_2, C)
            if T == tl.float16:
                x_0 = multiply(ones, x, x_0, C)
            else:
                x_2 = multiply(ones, x, x_2, C)
    if T == tl.float16:
        FACTOR: tl.constexpr = 16777216.0
        total = FACTOR * sum_0
    else:
        FACTOR: tl.constexpr = 1.0
        total = sum_0 - 128.0 * x_0
    if C.period > C.bits:
        if T == tl.bfloat16:
            sum_1 -= 128.0 * x_1
        total += sum_1 * (FACTOR / (1 << C.bits))
    if C.period > 2 * C.bits:
        if T == tl.bfloat16:
            sum_2 -= 128.0 * x_2
        total += sum_2 * (FACTOR / (1 << 2 * C.bits))
    sum_x = x_0 + x_1 + x_2
    if C.zeros:
        zero = packed_scale(zero_ptr, block, rn, n_mask, FIRST * KS, HALF, C)
        total -= zero * sum_x
    else:
        total = total * C.step - C.offset * sum_x
    return total * packed_scale(scale_ptr, block, rn, n_mask, FIRST * KS, C.scale, C)
