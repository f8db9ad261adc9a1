"""Low-bit codes in registers: from packed words to values of the activations' type, one code at a time.

``convert`` turns integers into floats with the conversion instruction, ``magic`` writes the code into the mantissa of
2^10 (f16) or 2^7 (bf16) and subtracts that again. ``ptx`` and ``raw`` take out the codes of two words at a time
(:mod:`fettle.backends.triton.templates.halfwords`).
"""

import triton
import triton.language as tl

CONVERT = tl.constexpr(0)
MAGIC = tl.constexpr(1)
PTX = tl.constexpr(2)
RAW = tl.constexpr(3)

INTEGER = tl.constexpr(0)
FLOAT = tl.constexpr(1)
BINARY_CODED = tl.constexpr(2)

_F16_1024 = tl.constexpr(0x6400)
_BF16_128 = tl.constexpr(0x4300)


@triton.jit
def load_words(pointer, offsets, mask, MASKED: tl.constexpr, CONTAINER: tl.constexpr):
    """Containers of 8, 16 or 32 bits as uint32."""
    if MASKED:
        words = tl.load(pointer + offsets, mask=mask, other=0)
    else:
        words = tl.load(pointer + offsets)
    words = words.to(tl.int32)
    if CONTAINER < 32:
        words = words & ((1 << CONTAINER) - 1)
    return words.to(tl.uint32, bitcast=True)


@triton.jit
def integer_value(code, T: tl.constexpr, BITS: tl.constexpr, STEP: tl.constexpr, OFFSET: tl.constexpr,
                  HOW: tl.constexpr):  # fmt: skip
    """``STEP · code - OFFSET`` as T; exact. ``code`` is int32, below 2^BITS."""
    if T == tl.int8:
        value = (code * STEP - OFFSET).to(tl.int8)
    elif HOW == CONVERT:
        value = (code * STEP - OFFSET).to(T)
    elif T == tl.float16:
        shifted = (code | _F16_1024).to(tl.int16).to(tl.float16, bitcast=True)
        value = without_magic(shifted, T, STEP, OFFSET)
    elif BITS < 8:
        shifted = (code | _BF16_128).to(tl.int16).to(tl.bfloat16, bitcast=True)
        value = without_magic(shifted, T, STEP, OFFSET)
    else:  # the mantissa of bf16 holds seven bits
        value = (code * STEP - OFFSET).to(T)
    return value


@triton.jit
def without_magic(shifted, T: tl.constexpr, STEP: tl.constexpr, OFFSET: tl.constexpr):
    """The value of a code that was written into the mantissa of 1024 (f16) or 128 (bf16)."""
    if T == tl.float16:
        BASE: tl.constexpr = 1024
    else:
        BASE: tl.constexpr = 128
    if STEP == 1:
        value = shifted - (BASE + OFFSET)
    else:  # twice the base would leave no bit for the code
        value = (shifted - BASE) * STEP - OFFSET
    return value.to(T)


@triton.jit
def float_value(code, T: tl.constexpr, BITS: tl.constexpr, EXPONENT: tl.constexpr, MANTISSA: tl.constexpr):
    """A minifloat as T: its bits moved to T's place, then scaled by the difference of the exponents' biases.

    Subnormals become subnormals of T, which the product makes right. No code is special (no infinity, no NaN).
    """
    sign = (code >> (BITS - 1)) << 15
    magnitude = code & ((1 << (BITS - 1)) - 1)
    if T == tl.float8e4nv:  # the only format that meets it is its own
        value = code.to(tl.uint8).to(tl.float8e4nv, bitcast=True)
    elif T == tl.float16:
        moved = (sign | (magnitude << (10 - MANTISSA))).to(tl.int16).to(tl.float16, bitcast=True)
        value = moved * (2.0 ** (15 - ((1 << (EXPONENT - 1)) - 1)))
    else:  # bf16 subnormals are below f32's normal range times the factor only in f32
        moved = (sign | (magnitude << (7 - MANTISSA))).to(tl.int16).to(tl.bfloat16, bitcast=True)
        value = moved.to(tl.float32) * (2.0 ** (127 - ((1 << (EXPONENT - 1)) - 1)))
    return value.to(T)


@triton.jit
def power_of_two(code):
    """The scale of an OCP MX block: 2^(code - 127) as f32, code an integer 0 … 254."""
    bits = tl.maximum(code << 23, 1 << 22)  # 2^-127 is subnormal
    return bits.to(tl.float32, bitcast=True)
