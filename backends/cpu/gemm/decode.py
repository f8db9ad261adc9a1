"""Packed codes to bytes: every step of a block of 16 rows of W becomes chunks of 16 rows by 4 k, a register each.

``fields``: shift the field down, mask it. ``planes``: ``vpmultishiftqb`` spreads the nibble of four k over the four
bytes of its row's lane, each plane rotated to its own bit of the byte beforehand.
"""

from __future__ import annotations

from fettle.backends.cpu.gemm.plan import GemmPlan
from fettle.backends.cpu.gemv.words import Buffer, Expr, T, constant, intrinsic, load, prefetch

BYTES = 64
"""Bytes of a chunk."""


def step_chunks(plan: GemmPlan, weights: Buffer, base: Expr, step: Expr, ahead: int | None = None) -> list[Expr]:
    """Emit the chunks of one step, ``uint8x64`` each, ascending in k.

    Args:
        base: offset of the block's first line in the weights, in bytes.
        step: index of the step in the block.
        ahead: bytes ahead of which to ask for the same lines; None for not at all.
    """
    planes = plan.packed.planes
    lines = []
    for plane in range(planes):
        offset = base + (step * planes + plane) * plan.line_stride
        if ahead is not None:
            prefetch(weights, offset + ahead)
        lines.append(load(weights, offset, BYTES))
    if plan.order == "planes":
        return _planes(plan, lines)
    return [_field(plan, lines[0], field) for field in range(plan.packed.fields)]


def _field(plan: GemmPlan, line: Expr, field: int) -> Expr:
    """Field ``field`` of every byte, at the place of decoded codes."""
    width = plan.packed.field
    if width == 8:
        return line
    shift = field * width - plan.place
    words = T.reinterpret("uint16x32", line)
    moved = T.shift_right if shift >= 0 else T.shift_left
    shifted = T.reinterpret("uint8x64", moved(words, constant(abs(shift), "uint16", 32))) if shift else line
    return T.Bind(T.bitwise_and(shifted, constant(((1 << width) - 1) << plan.place, "uint8", BYTES)))


def _planes(plan: GemmPlan, lines: list[Expr]) -> list[Expr]:
    """Eight chunks from one line per plane."""
    rotated = [T.Bind(_rotated(line, plane + plan.place)) for plane, line in enumerate(lines)]
    chunks = []
    for chunk in range(8):
        code = None
        for plane, line in enumerate(rotated):
            spread = intrinsic("int8x64", "llvm.x86.avx512.pmultishift.qb.512", _starts(chunk), line)
            mask = constant(1 << (plane + plan.place), "uint8", BYTES)
            bit = T.bitwise_and(T.reinterpret("uint8x64", spread), mask)
            code = bit if code is None else T.bitwise_or(code, bit)
        chunks.append(T.Bind(code))
    return chunks


def _rotated(line: Expr, bits: int) -> Expr:
    """Every 64-bit lane rotated left, as bytes."""
    if not bits:
        return T.reinterpret("int8x64", line)
    lanes = T.reinterpret("uint64x8", line)
    left = T.shift_left(lanes, constant(bits, "uint64", 8))
    right = T.shift_right(lanes, constant(64 - bits, "uint64", 8))
    return T.reinterpret("int8x64", T.bitwise_or(left, right))


def _starts(chunk: int) -> Expr:
    """Where in its 64-bit lane (two rows of W) each byte of a chunk begins."""
    nibble = 8 * (chunk % 4) + 4 * (chunk // 4)
    word = 0
    for byte in range(8):
        word |= (32 * (byte // 4) + nibble + byte % 4) << (8 * byte)
    return T.reinterpret("int8x64", constant(word, "uint64", 8))
