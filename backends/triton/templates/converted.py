"""Products whose codes become values of the activations' type one by one, before they are multiplied."""

import triton
import triton.language as tl

from fettle.backends.triton.templates.codes import BINARY_CODED, FLOAT, float_value, integer_value, load_words
from fettle.backends.triton.templates.scales import HALF, scale_of
from fettle.backends.triton.templates.tiles import along, first_words, load_x, multiply, zeros

MOST_BYTES = tl.constexpr(1 << 17)
"""K below which sums of products of int8 surely fit int32."""


@triton.jit
def product(x_ptr, x_scale_ptr, low_ptr, high_ptr, scale_ptr, zero_ptr, tensor_ptr, tile_m, tile_n, first, last, M,
            N: tl.constexpr, K: tl.constexpr, BITS: tl.constexpr, HIGH_BITS: tl.constexpr, VALUES: tl.constexpr,
            WORDS: tl.constexpr, CONTAINER: tl.constexpr, K_CONTIGUOUS: tl.constexpr, KIND: tl.constexpr,
            EXPONENT: tl.constexpr, MANTISSA: tl.constexpr, STEP: tl.constexpr, OFFSET: tl.constexpr,
            SCALE: tl.constexpr, GROUP: tl.constexpr, ZEROS: tl.constexpr, HOW: tl.constexpr, LATE: tl.constexpr,
            SWAP: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):  # fmt: skip
    """As :func:`fettle.backends.triton.templates.lowbit.product`."""
    T: tl.constexpr = x_ptr.dtype.element_ty
    KS: tl.constexpr = BK // VALUES
    MASKED: tl.constexpr = N % BN != 0
    # a late scale is applied once to the sum of all values of a group that follow one another in a block
    WHOLE_GROUPS: tl.constexpr = GROUP >= K or GROUP % BK == 0 or (BK % GROUP == 0 and GROUP % KS == 0)
    SPAN: tl.constexpr = min(GROUP, BK) // KS if WHOLE_GROUPS else 1
    SUM: tl.constexpr = tl.int32 if T == tl.int8 else tl.float32
    # one late scale a row is applied to whole sums, of which int32 holds those of bytes
    ROWS: tl.constexpr = LATE and GROUP >= K and KIND != BINARY_CODED and (T != tl.int8 or K < MOST_BYTES)
    rm = tile_m * BM + tl.arange(0, BM)
    rn = tile_n * BN + tl.arange(0, BN)
    rk = tl.arange(0, KS)
    n_mask = rn < N
    w_mask = along(n_mask, SWAP)
    at = first_words(rn, rk, N, WORDS * KS, K_CONTIGUOUS, SWAP)
    high_at = first_words(rn, rk, N, KS, K_CONTIGUOUS, SWAP)
    STRIDE: tl.constexpr = KS if K_CONTIGUOUS else KS * N
    acc = zeros(BM, BN, SWAP, SUM if ROWS else tl.float32)
    for block in range(first, last):
        base = low_ptr + block * (WORDS * KS * N)
        words = load_words(base, at, w_mask, MASKED, CONTAINER)
        if HIGH_BITS > 0:
            high_words = load_words(high_ptr + block * (KS * N), high_at, w_mask, MASKED, 8 * HIGH_BITS)
        for j in tl.static_range(VALUES):
            k = block * BK + j * KS
            code, words = next_code(words, base, at, w_mask, j, BITS, CONTAINER, STRIDE, MASKED)
            if HIGH_BITS > 0:
                high = (high_words >> (j * HIGH_BITS)) & ((1 << HIGH_BITS) - 1)
                code = code | (high.to(tl.int32, bitcast=True) << BITS)
            if KIND == BINARY_CODED:
                value = sum_of_planes(code, scale_ptr, tensor_ptr, k, rk, rn, n_mask, N, K, KS, GROUP, BITS, SCALE,
                                      SWAP, MASKED).to(T)  # fmt: skip
            else:
                value = centred(code, zero_ptr, tensor_ptr, k, rk, rn, n_mask, T, N, K, KS, BITS + HIGH_BITS, KIND,
                                EXPONENT, MANTISSA, STEP, OFFSET, GROUP, ZEROS, HOW, SWAP, MASKED)  # fmt: skip
                if not ROWS:
                    scale = scale_of(scale_ptr, tensor_ptr, k, rk, rn, n_mask, 0, N, K, KS, GROUP, 1, SCALE, SWAP,
                                     MASKED)  # fmt: skip
                if not LATE:
                    value = scaled(value, scale)
            x = load_x(x_ptr, rm, k, M, K, KS, SWAP)
            if LATE and not ROWS and KIND != BINARY_CODED:
                if j % SPAN == 0:
                    part = tl.zeros(acc.shape, SUM)
                part = multiply(value, x, part, SWAP)
                if j % SPAN == SPAN - 1:
                    acc += rescaled(part, scale, x_scale_ptr + k // GROUP * M, rm, M, T, SWAP)
            else:
                acc = multiply(value, x, acc, SWAP)
    if ROWS:
        scale = scale_of(scale_ptr, tensor_ptr, 0, rk, rn, n_mask, 0, N, K, KS, GROUP, 1, SCALE, SWAP, MASKED)
        acc = rescaled(acc, scale, x_scale_ptr, rm, M, T, SWAP)
    return acc


@triton.jit
def rescaled(total, scale, x_scale_ptr, rm, M, T: tl.constexpr, SWAP: tl.constexpr):
    """A sum of a group times the scales of its weights and, if they were rounded to bytes, of its activations, f32."""
    result = total.to(tl.float32) * scale.to(tl.float32)
    if T == tl.int8 or T == tl.float8e4nv:
        x_scale = tl.load(x_scale_ptr + rm, mask=rm < M, other=0.0)
        result = result * along(x_scale, not SWAP)
    return result


@triton.jit
def next_code(words, base, at, mask, J: tl.constexpr, BITS: tl.constexpr, CONTAINER: tl.constexpr,
              STRIDE: tl.constexpr, MASKED: tl.constexpr):  # fmt: skip
    """Code J of each run, and the container that the next begins in; a code may straddle two containers.

    ``words`` has the container that the code before ended in; containers of a run are STRIDE apart.
    """
    CONTAINER_OF_J: tl.constexpr = J * BITS // CONTAINER
    PLACE: tl.constexpr = J * BITS % CONTAINER
    if J > 0 and PLACE == 0:
        words = load_words(base + CONTAINER_OF_J * STRIDE, at, mask, MASKED, CONTAINER)
    code = words >> PLACE
    if PLACE + BITS > CONTAINER:
        words = load_words(base + (CONTAINER_OF_J + 1) * STRIDE, at, mask, MASKED, CONTAINER)
        code = code | (words << (CONTAINER - PLACE))
    return (code & ((1 << BITS) - 1)).to(tl.int32, bitcast=True), words


@triton.jit
def centred(code, zero_ptr, tensor_ptr, k, rk, rn, n_mask, T: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
            KS: tl.constexpr, BITS: tl.constexpr, KIND: tl.constexpr, EXPONENT: tl.constexpr, MANTISSA: tl.constexpr,
            STEP: tl.constexpr, OFFSET: tl.constexpr, GROUP: tl.constexpr, ZEROS: tl.constexpr, HOW: tl.constexpr,
            SWAP: tl.constexpr, MASKED: tl.constexpr):  # fmt: skip
    """The exact number a code of an integer or a minifloat stands for, less its zero point, unscaled."""
    if KIND == FLOAT:
        value = float_value(code, T, BITS, EXPONENT, MANTISSA)
    elif ZEROS:
        zero = scale_of(zero_ptr, tensor_ptr, k, rk, rn, n_mask, 0, N, K, KS, GROUP, 1, HALF, SWAP, MASKED)
        value = integer_value(code, T, BITS, 1, 0, HOW) - zero.to(T)
    else:
        value = integer_value(code, T, BITS, STEP, OFFSET, HOW)
    return value


@triton.jit
def scaled(value, scale):
    """Rounded once: scales of another type are applied in f32."""
    if scale.dtype == value.dtype:
        result = value * scale
    else:
        result = (value.to(tl.float32) * scale.to(tl.float32)).to(value.dtype)
    return result


@triton.jit
def sum_of_planes(code, scale_ptr, tensor_ptr, k, rk, rn, n_mask, N: tl.constexpr, K: tl.constexpr, KS: tl.constexpr,
                  GROUP: tl.constexpr, PLANES: tl.constexpr, SCALE: tl.constexpr, SWAP: tl.constexpr,
                  MASKED: tl.constexpr):  # fmt: skip
    """A binary-coded weight, f32: each bit of its code is +1 or -1 times the scale of its plane."""
    total = tl.zeros(code.shape, tl.float32)
    for plane in tl.static_range(PLANES):
        scale = scale_of(scale_ptr, tensor_ptr, k, rk, rn, n_mask, plane, N, K, KS, GROUP, PLANES, SCALE, SWAP,
                         MASKED)  # fmt: skip
        total += (((code >> plane) & 1) * 2 - 1).to(tl.float32) * scale.to(tl.float32)
    return total
