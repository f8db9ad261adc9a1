"""Scales and zero points of groups of weights, as tiles that meet those of the weights."""

import triton
import triton.language as tl

from fettle.backends.triton.templates.codes import float_value, power_of_two
from fettle.backends.triton.templates.tiles import along

HALF = tl.constexpr(0)
"""Scales are floats, as their pointer says."""
E8M0 = tl.constexpr(1)
E4M3 = tl.constexpr(2)
E8M0_OF_64THS = tl.constexpr(3)
"""Powers of two for integers that count 64ths (MXINT8)."""


@triton.jit
def scale_of(pointer, tensor_pointer, k, rn, n_mask, plane, PLANES: tl.constexpr, SCALE: tl.constexpr,
             C: tl.constexpr):  # fmt: skip
    """Scales (or zero points) ``[groups, PLANES, N]`` of a step of values from k on, to be broadcast against their
    tile; stored as SCALE has it."""
    KS: tl.constexpr = C.block_k // C.values
    if C.group % KS == 0 or C.group >= C.k:  # the values share a group
        offsets = along((k // C.group * PLANES + plane) * C.n + rn, C.swap)
    else:
        rk = tl.arange(0, KS)
        offsets = along(((k + rk) // C.group * PLANES + plane) * C.n, not C.swap) + along(rn, C.swap)
    if C.n % C.block_n != 0:
        scale = tl.load(pointer + offsets, mask=along(n_mask, C.swap), other=0)
    else:
        scale = tl.load(pointer + offsets)
    if SCALE == E8M0:
        scale = power_of_two(scale.to(tl.int32))
    elif SCALE == E8M0_OF_64THS:
        scale = power_of_two(scale.to(tl.int32)) * 0.015625
    elif SCALE == E4M3:
        scale = float_value(scale.to(tl.int32), tl.float16, 8, 4, 3).to(tl.float32) * tl.load(tensor_pointer)
    return scale


F16_TIMES_2_15 = tl.constexpr(
    "{ .reg .b32 f, z; mov.b32 f, 0x78007800; mov.b32 z, 0x80008000; fma.rn.f16x2 $0, $1, f, z; }"
)
BF16_TIMES_2_238 = tl.constexpr("""{ .reg .b32 f, g, z; mov.b32 f, 0x7f007f00; mov.b32 g, 0x77007700;
mov.b32 z, 0x80008000; fma.rn.bf16x2 f, $1, f, z; fma.rn.bf16x2 $0, f, g, z; }""")


@triton.jit
def packed_word(pointer, block, rn, n_mask, FIRST: tl.constexpr, SHARED: tl.constexpr, C: tl.constexpr):
    """The word along n that has the scale of the group that value FIRST of a block of K is in, and its place there.

    Words of 32 bits, which every thread can load ahead, hold those of SHARED groups of one n, ``[words, N]``; loads of
    one word become one.
    """
    if C.block_k % (SHARED * C.group) == 0:
        word = block * (C.block_k // C.group // SHARED) + FIRST // C.group // SHARED
        place = FIRST // C.group % SHARED
    else:
        group = (block * C.block_k + FIRST) // C.group
        word = group // SHARED
        place = group % SHARED
    if C.n % C.block_n != 0:
        found = tl.load(pointer + word * C.n + rn, mask=n_mask, other=0)
    else:
        found = tl.load(pointer + word * C.n + rn)
    return found, place


@triton.jit
def packed_scale(pointer, block, rn, n_mask, FIRST: tl.constexpr, SCALE: tl.constexpr, C: tl.constexpr):
    """The scale (or zero point) of the group that value FIRST of a block of K is in, f32, along n.

    One (f32), 2 (f16) or 4 (bytes) share a word. What scales the whole tensor is left out.
    """
    if SCALE != HALF:
        SHARED: tl.constexpr = 4
    elif pointer.dtype.element_ty == tl.float32:
        SHARED: tl.constexpr = 1
    else:
        SHARED: tl.constexpr = 2
    found, place = packed_word(pointer, block, rn, n_mask, FIRST, SHARED, C)
    if SCALE == E8M0:
        scale = power_of_two(((found >> (place * 8)) & 0xFF).to(tl.int32))
    elif SCALE == E8M0_OF_64THS:
        scale = power_of_two(((found >> (place * 8)) & 0xFF).to(tl.int32)) * 0.015625
    elif SCALE == E4M3:
        code = ((found >> (place * 8)) & 0xFF).to(tl.int32)
        scale = float_value(code, tl.float16, 8, 4, 3).to(tl.float32)
    elif SHARED == 2:
        scale = ((found >> (place * 16)) & 0xFFFF).to(tl.uint16).to(tl.float16, bitcast=True).to(tl.float32)
    else:
        scale = found
    return along(scale, C.swap)


@triton.jit
def folded_scale(pointer, block, rn, n_mask, FIRST: tl.constexpr, T: tl.constexpr, C: tl.constexpr):
    """As :func:`packed_scale`, as T, along n; two scales are made at a time, of alternate bytes.

    Of powers of two, a byte is the exponent of a bf16 (but 2^-127, which the product with a weight makes smaller than
    anything f32 tells from zero). Of positive f8e4m3, 2^7 (f16) or 2^118 (bf16) times each, so that a product with a
    minifloat whose bits lie where T has its own needs no other factor in the loop
    (:func:`fettle.backends.triton.lowbit.spread.folded_factor`).
    """
    found, place = packed_word(pointer, block, rn, n_mask, FIRST, 4, C)
    if C.block_k % (4 * C.group) == 0:
        PLACE: tl.constexpr = FIRST // C.group % 4
    else:
        PLACE: tl.constexpr = 0
        found = found >> (place * 8)
    if C.scale == E8M0:
        moved = found << 7 if PLACE % 2 == 0 else found >> 1
        pair = moved & 0x7F807F80
    elif T == tl.float16:
        moved = found << 7 if PLACE % 2 == 0 else found >> 1
        pair = tl.inline_asm_elementwise(F16_TIMES_2_15, "=r,r", [moved & 0x3F803F80], tl.uint32, True, 1)
    else:
        moved = found << 4 if PLACE % 2 == 0 else found >> 4
        pair = tl.inline_asm_elementwise(BF16_TIMES_2_238, "=r,r", [moved & 0x07F007F0], tl.uint32, True, 1)
    half = pair >> 16 if PLACE >= 2 else pair & 0xFFFF
    return along(half.to(tl.uint16).to(T, bitcast=True), C.swap)
