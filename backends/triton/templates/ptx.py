"""Inline PTX that spreads the codes of two words over pairs of halves.

Two neighbouring words hold ``32 / bits`` codes each. ``prmt`` brings their low (then high) halves together, so that one
shift and one ``lop3`` give code j of both words as a pair, already in the mantissa of 1024.0 (f16) or 128.0 (bf16).
"""

import triton.language as tl

_MAGIC = {"f16": 0x6400, "bf16": 0x4300}
_MANTISSA = {"f16": 10, "bf16": 7}

LIMIT = 28
"""Operands that inline assembly takes."""


def spread(bits: int, kind: str) -> tuple[str, str]:
    """Assembly and constraints for codes of ``bits`` bits: 2 words in, ``32 / bits`` pairs out."""
    count = 32 // bits
    magic = _MAGIC[kind] << 16 | _MAGIC[kind]
    field = (1 << bits) - 1
    mask = field << 16 | field
    lines = ["{", ".reg .b32 low, high, part;"]
    lines.append(f"prmt.b32 low, ${count}, ${count + 1}, 0x5410;")
    lines.append(f"prmt.b32 high, ${count}, ${count + 1}, 0x7632;")
    for j in range(count):
        source = "low" if j < count // 2 else "high"
        shift = j * bits % 16
        if shift:
            lines.append(f"shr.b32 part, {source}, {shift};")
            source = "part"
        lines.append(f"lop3.b32 ${j}, {source}, {mask:#010x}, {magic:#010x}, 0xea;")  # (a & b) | c
    lines.append("}")
    return "\n".join(lines), ",".join(["=r"] * count + ["r", "r"])


def fields(bits: int, kind: str) -> tuple[str, str]:
    """Assembly and constraints for two words of 16 bits, side by side in a register, to ``16 / bits`` pairs of halves.

    Field j keeps its place modulo twice its width if the mantissa holds both places, else it moves to bit 0. In f16 it
    is a subnormal number then, in bf16 it lies in the mantissa of 128. See :mod:`fettle.backends.triton.templates.raw`.
    """
    count = 16 // bits
    period = 2 * bits if 2 * bits <= _MANTISSA[kind] else bits
    lines = ["{", ".reg .b32 part;"]
    shifted = 0
    for j in range(count):
        place = j * bits % period
        shift = j * bits - place
        mask = ((1 << bits) - 1) << place
        mask |= mask << 16
        if shift and shift != shifted:
            lines.append(f"shr.b32 part, ${count}, {shift};")
            shifted = shift
        source = "part" if shift else f"${count}"
        if kind == "f16":
            lines.append(f"and.b32 ${j}, {source}, {mask:#010x};")
        else:
            magic = _MAGIC["bf16"] << 16 | _MAGIC["bf16"]
            lines.append(f"lop3.b32 ${j}, {source}, {mask:#010x}, {magic:#010x}, 0xea;")  # (a & b) | c
    lines.append("}")
    return "\n".join(lines), ",".join(["=r"] * count + ["r"])


_F16 = {bits: spread(bits, "f16") for bits in (2, 4, 8)}
_BF16 = {bits: spread(bits, "bf16") for bits in (2, 4)}

F16_2 = tl.constexpr(_F16[2][0])
F16_4 = tl.constexpr(_F16[4][0])
F16_8 = tl.constexpr(_F16[8][0])
BF16_2 = tl.constexpr(_BF16[2][0])
BF16_4 = tl.constexpr(_BF16[4][0])
SHAPE_2 = tl.constexpr(_F16[2][1])
SHAPE_4 = tl.constexpr(_F16[4][1])
SHAPE_8 = tl.constexpr(_F16[8][1])

_RAW_F16 = {bits: fields(bits, "f16") for bits in (1, 2, 4, 8)}
_RAW_BF16 = {bits: fields(bits, "bf16") for bits in (1, 2, 4)}

RAW_F16_1 = tl.constexpr(_RAW_F16[1][0])
RAW_F16_2 = tl.constexpr(_RAW_F16[2][0])
RAW_F16_4 = tl.constexpr(_RAW_F16[4][0])
RAW_F16_8 = tl.constexpr(_RAW_F16[8][0])
RAW_BF16_1 = tl.constexpr(_RAW_BF16[1][0])
RAW_BF16_2 = tl.constexpr(_RAW_BF16[2][0])
RAW_BF16_4 = tl.constexpr(_RAW_BF16[4][0])
RAW_SHAPE_1 = tl.constexpr(_RAW_F16[1][1])
RAW_SHAPE_2 = tl.constexpr(_RAW_F16[2][1])
RAW_SHAPE_4 = tl.constexpr(_RAW_F16[4][1])
RAW_SHAPE_8 = tl.constexpr(_RAW_F16[8][1])
