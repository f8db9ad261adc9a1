"""Instructions that spread the codes of words of 16 bits over pairs of halves, as inline PTX.

A register holds two neighbouring words, so that each instruction serves two codes. A code stays where it is if the
mantissa has room there, else it is shifted down by a multiple of the period, which few codes need and several share::

    place(q) = q mod (bits · ⌊mantissa / bits⌋, at most three codes)          of a code from bit q of a word on

Codes made of left-over bits (see :mod:`fettle.backends.triton.lowbit.layouts`) are put together at place 0. Whatever
lies at place p in the mantissa of 2^10 (f16) or 2^7 (bf16) is that number plus ``code · 2^p``: one ``fma`` makes an
exact integer of it (after MARLIN, 2408.11743); without it, codes are ``raw``. Minifloats are their sign and the rest,
moved to where the half has them, and scaled by the difference of the exponents' biases (after FP6-LLM, 2312.08583).
"""

from __future__ import annotations

import struct

import attrs

from fettle.backends.triton.lowbit.layouts import Piece, pieces

WORD = 16
MANTISSA = {"f16": 10, "bf16": 7}
_EXPONENT_BIAS = {"f16": 15, "bf16": 127}
_MAGIC = {"f16": 0x6400, "bf16": 0x4300}
_MOST_PLACES = 3
_AND_OR = 0xEA
"""``lop3``'s table of (a & b) | c."""


@attrs.frozen
class Assembly:
    """Inline PTX and its constraints: a register a word in, one a code out."""

    text: str
    constraints: str


def period(bits: int, act: str) -> int:
    """Distance of places at which codes are equal; 0 if the mantissa does not hold a code."""
    return bits * min(MANTISSA[act] // bits, _MOST_PLACES)


def raw(bits: int, act: str) -> Assembly:
    """Codes in the mantissa of 128 (bf16), or as subnormal numbers ``code · 2^(place - 24)`` (f16)."""
    writer = _Writer(bits, act)
    for j, code in enumerate(writer.codes):
        if act == "f16":
            writer.gather(f"${j}", code, _place(code, period(bits, act)))
        else:
            writer.gather(f"${j}", code, _place(code, period(bits, act)), _MAGIC[act])
    return writer.finish()


def integers(bits: int, act: str, step: int, offset: int) -> Assembly:
    """``step · code - offset``, exact."""
    writer = _Writer(bits, act)
    base = 1 << MANTISSA[act]
    if period(bits, act) == 0:  # of eight bits, bf16 holds seven: the eighth is the lowest of the exponent of 128
        for j, code in enumerate(writer.codes):
            writer.gather("low", (attrs.evolve(code[0], count=bits - 1),), 0, _MAGIC[act])
            top = Piece(code[0].word, code[0].bit + bits - 1, 1, 0)
            writer.gather("high", (top,), bits - 1, _MAGIC[act])
            writer.multiply_add("high", "high", 1.0, -2.0 * base - offset)
            writer.multiply_add(f"${j}", "low", 1.0, "high")
        return writer.finish()
    least = 1 if step == 2 else 0  # twice the base leaves no bit for an odd offset
    for j, code in enumerate(writer.codes):
        place = _place(code, period(bits, act)) + least
        writer.gather("part", code, place, _MAGIC[act])
        scale = step / (1 << place)
        writer.multiply_add(f"${j}", "part", scale, -base * scale - offset)
    return writer.finish()


def floats(exponent: int, mantissa: int, act: str, scaled: bool) -> Assembly:
    """Minifloats; 2^(their exponent's bias - the half's) times that if not ``scaled``, which f16 has room for."""
    bits = 1 + exponent + mantissa
    writer = _Writer(bits, act)
    for j, code in enumerate(writer.codes):
        word, bit = f"${len(writer.codes) + code[0].word}", code[0].bit
        if len(code) > 1:
            word, bit = "code", 0
            writer.gather(word, code, 0)
        target = "part" if scaled else f"${j}"
        sign_up = (WORD - 1) - (bit + bits - 1)
        up = MANTISSA[act] - mantissa - bit
        magnitude = ((1 << bits - 1) - 1) << MANTISSA[act] - mantissa
        if up == sign_up:
            writer.mask(target, word, up, magnitude | 1 << WORD - 1)
        else:
            writer.mask("sign", word, sign_up, 1 << WORD - 1)
            writer.mask(target, word, up, magnitude, "sign")
        if scaled:
            writer.multiply_add(f"${j}", target, bias_factor(exponent, act), -0.0)
    return writer.finish()


def bias_factor(exponent: int, act: str) -> float:
    """What a minifloat's bits, where the half has its own, are short of."""
    return float(2.0 ** (_EXPONENT_BIAS[act] - ((1 << exponent - 1) - 1)))


def folded_factor(exponent: int, act: str) -> float:
    """What a minifloat's bits, where the half has its own, are short of when multiplied by f8e4m3's 2^7 (f16) or
    2^118 (bf16); with three bits of exponent and fewer, such products are exact numbers of the half."""
    return bias_factor(exponent, act) * 2.0 ** -{"f16": 7, "bf16": 118}[act]


def _place(code: tuple[Piece, ...], every: int) -> int:
    """Where a code that lies in one piece need not leave, modulo the period; 0 for others."""
    return code[0].bit % every if len(code) == 1 else 0


class _Writer:
    """Lines of assembly for one run of codes; shifted words are kept while they are of use."""

    def __init__(self, bits: int, act: str) -> None:
        self.codes = pieces(bits, WORD, whole=True)
        self._words = 1 + max(piece.word for code in self.codes for piece in code)
        self._act = act
        self._lines: list[str] = []
        self._shifted = ("", 0)
        self._constants: dict[str, str] = {}

    def gather(self, target: str, code: tuple[Piece, ...], place: int, magic: int = 0) -> None:
        """A code's pieces, its lowest bit at ``place``, in the mantissa of a number."""
        so_far = f"{_pair(magic):#010x}" if magic else ""
        for piece in code:
            at = place + piece.at
            self.mask(target, self._word(piece), at - piece.bit, ((1 << piece.count) - 1) << at, so_far)
            so_far = target

    def mask(self, target: str, word: str, up: int, mask: int, other: str = "") -> None:
        """``(word << up) & mask | other``, in each half; bits that cross from one to the other are masked out."""
        source = self._shift(word, up) if up else word
        if other:
            self._lines.append(f"lop3.b32 {target}, {source}, {_pair(mask):#010x}, {other}, {_AND_OR:#x};")
        else:
            self._lines.append(f"and.b32 {target}, {source}, {_pair(mask):#010x};")

    def multiply_add(self, target: str, value: str, factor: float, addend: float | str) -> None:
        """``value · factor + addend`` of pairs, rounded once; the addend is a number or a register."""
        last = addend if isinstance(addend, str) else self._constant(addend)
        self._lines.append(f"fma.rn.{self._act}x2 {target}, {value}, {self._constant(factor)}, {last};")

    def finish(self) -> Assembly:
        """With declarations and constants first, which a compiler moves out of loops."""
        names = ["part", "low", "high", "sign", "code", "moved", *self._constants.values()]
        constants = [f"mov.b32 {name}, {value};" for value, name in self._constants.items()]
        text = "\n".join(["{", f".reg .b32 {', '.join(names)};", *constants, *self._lines, "}"])
        return Assembly(text, ",".join(["=r"] * len(self.codes) + ["r"] * self._words))

    def _word(self, piece: Piece) -> str:
        return f"${len(self.codes) + piece.word}"

    def _shift(self, word: str, up: int) -> str:
        if self._shifted != (word, up) or word == "code":
            self._lines.append(f"{'shl' if up > 0 else 'shr'}.b32 moved, {word}, {abs(up)};")
            self._shifted = (word, up)
        return "moved"

    def _constant(self, value: float) -> str:
        bits = _f16(value) if self._act == "f16" else _bf16(value)
        return self._constants.setdefault(f"{_pair(bits):#010x}", f"c{len(self._constants)}")


def _pair(half: int) -> int:
    return half << WORD | half


def _f16(value: float) -> int:
    """The bits of a number that f16 has."""
    packed = struct.pack("<e", value)
    assert struct.unpack("<e", packed)[0] == value, f"{value} is no number of f16"
    return int.from_bytes(packed, "little")


def _bf16(value: float) -> int:
    """The bits of a number that bf16 has."""
    bits = int.from_bytes(struct.pack("<f", value), "little")
    assert bits & 0xFFFF == 0, f"{value} is no number of bf16"
    return bits >> 16
