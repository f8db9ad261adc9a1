"""Products whose codes become values of the activations' type one by one, before they are multiplied."""

import triton
import triton.language as tl

from fettle.backends.triton.templates.codes import BINARY_CODED, FLOAT, float_value, integer_value, load_words
from fettle.backends.triton.templates.scales import HALF, scale_of
from fettle.backends.triton.templates.tiles import along, first_words, load_x, multiply, origin, zeros

MOST_BYTES = tl.constexpr(1 << 17)
"""K below which sums of products of int8 surely fit int32."""


@triton.jit
def product(x_ptr, x_scale_ptr, low_ptr, high_ptr, scale_ptr, zero_ptr, tensor_ptr, tile, first, last, M,
            C: tl.constexpr):  # fmt: skip
    """As :func:`fettle.backends.triton.templates.lowbit.product`."""
    T: tl.constexpr = x_ptr.dtype.element_ty
    KS: tl.constexpr = C.block_k // C.values
    MASKED: tl.constexpr = C.n % C.block_n != 0
    # a late scale is applied once to the sum of all values of a group that follow one another in a block
    WHOLE_GROUPS: tl.constexpr = (
        C.group >= C.k or C.group % C.block_k == 0 or (C.block_k % C.group == 0 and C.group % KS == 0)
    )
    SPAN: tl.constexpr = min(C.group, C.block_k) // KS if WHOLE_GROUPS else 1
    SUM: tl.constexpr = tl.int32 if T == tl.int8 else tl.float32
    # one late scale a row is applied to whole sums, of which int32 holds those of bytes
    ROWS: tl.constexpr = C.late and C.group >= C.k and C.kind != BINARY_CODED and (T != tl.int8 or C.k < MOST_BYTES)
    m, n = origin(tile, C)
    rm = m + tl.arange(0, C.block_m)
    rn = n + tl.arange(0, C.block_n)
    rk = tl.arange(0, KS)
    n_mask = rn < C.n
    w_mask = along(n_mask, C.swap)
    at = first_words(rn, rk, C.words * KS, C)
    high_at = first_words(rn, rk, KS, C)
    acc = zeros(SUM if ROWS else tl.float32, C)
    for block in range(first, last):
        base = low_ptr + block * (C.words * KS * C.n)
        words = load_words(base, at, w_mask, MASKED, C.container)
        if C.high_bits > 0:
            high_words = load_words(high_ptr + block * (KS * C.n), high_at, w_mask, MASKED, 8 * C.high_bits)
        for j in tl.static_range(C.values):
            k = block * C.block_k + j * KS
            code, words = next_code(words, base, at, w_mask, j, C)
            if C.high_bits > 0:
                high = (high_words >> (j * C.high_bits)) & ((1 << C.high_bits) - 1)
                code = code | (high.to(tl.int32, bitcast=True) << C.bits)
            if C.kind == BINARY_CODED:
                value = sum_of_planes(code, scale_ptr, tensor_ptr, k, rn, n_mask, C).to(T)
            else:
                value = centred(code, zero_ptr, tensor_ptr, k, rn, n_mask, T, C)
                if not ROWS:
                    scale = scale_of(scale_ptr, tensor_ptr, k, rn, n_mask, 0, 1, C.scale, C)
                if not C.late:
                    value = scaled(value, scale)
            x = load_x(x_ptr, rm, k, M, KS, C)
            if C.late and not ROWS and C.kind != BINARY_CODED:
                if j % SPAN == 0:
                    part = tl.zeros(acc.shape, SUM)
                part = multiply(value, x, part, C)
                if j % SPAN == SPAN - 1:
                    acc += rescaled(part, scale, x_scale_ptr + k // C.group * M, rm, M, T, C)
            else:
                acc = multiply(value, x, acc, C)
    if ROWS:
        scale = scale_of(scale_ptr, tensor_ptr, 0, rn, n_mask, 0, 1, C.scale, C)
        acc = rescaled(acc, scale, x_scale_ptr, rm, M, T, C)
    return acc


@triton.jit
def rescaled(total, scale, x_scale_ptr, rm, M, T: tl.constexpr, C: tl.constexpr):
    """A sum of a group times the scales of its weights and, if they were rounded to bytes, of its activations, f32."""
    result = total.to(tl.float32) * scale.to(tl.float32)
    if T == tl.int8 or T == tl.float8e4nv:
        x_scale = tl.load(x_scale_ptr + rm, mask=rm < M, other=0.0)
        result = result * along(x_scale, not C.swap)
    return result


@triton.jit
def next_code(words, base, at, mask, J: tl.constexpr, C: tl.constexpr):
    """Code J of each run, and the container that the next begins in; a code may straddle two containers.

    ``words`` has the container that the code before ended in; containers of a run are STRIDE apart.
    """
    KS: tl.constexpr = C.block_k // C.values
    STRIDE: tl.constexpr = KS if C.k_contiguous else KS * C.n
    MASKED: tl.constexpr = C.n % C.block_n != 0
    CONTAINER_OF_J: tl.constexpr = J * C.bits // C.container
    PLACE: tl.constexpr = J * C.bits % C.container
    if J > 0 and PLACE == 0:
        words = load_words(base + CONTAINER_OF_J * STRIDE, at, mask, MASKED, C.container)
    code = words >> PLACE
    if PLACE + C.bits > C.container:
        words = load_words(base + (CONTAINER_OF_J + 1) * STRIDE, at, mask, MASKED, C.container)
        code = code | (words << (C.container - PLACE))
    return (code & ((1 << C.bits) - 1)).to(tl.int32, bitcast=True), words


@triton.jit
def centred(code, zero_ptr, tensor_ptr, k, rn, n_mask, T: tl.constexpr, C: tl.constexpr):
    """The exact number a code of an integer or a minifloat stands for, less its zero point, unscaled."""
    BITS: tl.constexpr = C.bits + C.high_bits
    if C.kind == FLOAT:
        value = float_value(code, T, BITS, C.exponent, C.mantissa)
    elif C.zeros:
        zero = scale_of(zero_ptr, tensor_ptr, k, rn, n_mask, 0, 1, HALF, C)
        value = integer_value(code, T, BITS, 1, 0, C.how) - zero.to(T)
    else:
        value = integer_value(code, T, BITS, C.step, C.offset, C.how)
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
def sum_of_planes(code, scale_ptr, tensor_ptr, k, rn, n_mask, C: tl.constexpr):
    """A binary-coded weight, f32: each bit of its code is +1 or -1 times the scale of its plane."""
    PLANES: tl.constexpr = C.bits + C.high_bits
    total = tl.zeros(code.shape, tl.float32)
    for plane in tl.static_range(PLANES):
        scale = scale_of(scale_ptr, tensor_ptr, k, rn, n_mask, plane, PLANES, C.scale, C)
        total += (((code >> plane) & 1) * 2 - 1).to(tl.float32) * scale.to(tl.float32)
    return total
