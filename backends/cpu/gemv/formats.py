"""Narrow floats in memory, float32 in registers. bfloat16 is converted by shifts.

Where the machine has no instruction for float16 (``converts_half`` is false), integer operations convert it:
LLVM would call library functions, which an object file on its own does not have.
"""

from __future__ import annotations

import attrs

from fettle.backends.cpu.gemv.words import Buffer, Expr, Place, T, constant, read, store, vector


@attrs.frozen
class Floats:
    """How floats of one format are read and written.

    Attributes:
        kind: ``f32``, ``f16`` or ``bf16``.
        converts_half: the machine has instructions for float16.
    """

    kind: str
    converts_half: bool = True

    @property
    def dtype(self) -> str:
        """Type of a buffer's elements."""
        return {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}[self.kind]

    def load(self, buffer: Buffer, place: Place, lanes: int) -> Expr:
        """``lanes`` elements as float32, loaded once."""
        return T.Bind(self.read(buffer, place, lanes))

    def read(self, buffer: Buffer, place: Place, lanes: int) -> Expr:
        """``lanes`` elements as float32, loaded where the expression is used."""
        raw = read(buffer, place, lanes)
        if self.kind == "f16":
            return T.Cast(vector("float32", lanes), raw) if self.converts_half else _half_to_float(raw, lanes)
        if self.kind == "bf16":
            wide = T.Cast(vector("uint32", lanes), T.reinterpret(vector("uint16", lanes), raw))
            return T.reinterpret(vector("float32", lanes), T.shift_left(wide, constant(16, "uint32", lanes)))
        return raw

    def read_first(self, buffer: Buffer, place: Place, count: int, lanes: int) -> Expr:
        """As :meth:`read`, but only ``count`` elements; zeros in the lanes behind them."""
        if count == lanes:
            return self.read(buffer, place, lanes)
        *outer, last = place if isinstance(place, tuple) else (place,)
        values = T.alloc_buffer((lanes,), "float32", align=64)
        store(values, 0, constant(0, "float32", lanes), lanes)
        with T.serial(0, count) as lane:
            store(values, lane, self.read(buffer, (*outer, last + lane), 1), 1)
        return read(values, 0, lanes)

    def store(self, buffer: Buffer, place: Place, value: Expr, lanes: int) -> None:
        """Round float32 values to the format, ties to even."""
        if self.kind == "f16":
            value = T.Cast(vector("float16", lanes), value) if self.converts_half else _float_to_half(value, lanes)
        elif self.kind == "bf16":
            bits = _bits(value, lanes)
            odd = T.bitwise_and(_right(bits, 16, lanes), constant(1, "uint32", lanes))
            rounded = _right(bits + odd + constant(0x7FFF, "uint32", lanes), 16, lanes)
            value = T.reinterpret(vector("bfloat16", lanes), T.Cast(vector("uint16", lanes), rounded))
        store(buffer, place, value, lanes)


def _bits(value: Expr, lanes: int) -> Expr:
    return T.Bind(T.reinterpret(vector("uint32", lanes), value))


def _right(value: Expr, bits: int, lanes: int) -> Expr:
    return T.shift_right(value, constant(bits, "uint32", lanes))


def _half_to_float(half: Expr, lanes: int) -> Expr:
    """Exponent and mantissa move up, and one multiplication rebiases the exponent; exact, subnormals too."""
    raw = T.Cast(vector("uint32", lanes), T.reinterpret(vector("uint16", lanes), half))
    sign = T.shift_left(T.bitwise_and(raw, constant(0x8000, "uint32", lanes)), constant(16, "uint32", lanes))
    magnitude = T.shift_left(T.bitwise_and(raw, constant(0x7FFF, "uint32", lanes)), constant(13, "uint32", lanes))
    scaled = T.reinterpret(vector("float32", lanes), magnitude) * constant(2.0**112, "float32", lanes)
    result = T.bitwise_or(T.reinterpret(vector("uint32", lanes), scaled), sign)
    return T.reinterpret(vector("float32", lanes), result)


def _float_to_half(value: Expr, lanes: int) -> Expr:
    """Finite values to nearest, ties to even; subnormals are rounded by adding 0.5; too large ones become infinite."""
    bits = _bits(value, lanes)
    magnitude = T.Bind(T.bitwise_and(bits, constant(0x7FFFFFFF, "uint32", lanes)))
    sign = _right(bits - magnitude, 16, lanes)
    odd = T.bitwise_and(_right(magnitude, 13, lanes), constant(1, "uint32", lanes))
    rebias = constant((112 << 23) - 0xFFF, "uint32", lanes)
    normal = _right(magnitude - rebias + odd, 13, lanes)
    shifted = T.reinterpret(vector("float32", lanes), magnitude) + constant(0.5, "float32", lanes)
    subnormal = _bits(shifted, lanes) - constant(126 << 23, "uint32", lanes)
    infinite = constant(0x7C00, "uint32", lanes)
    small = T.Select(magnitude < constant(113 << 23, "uint32", lanes), subnormal, normal)
    result = T.Select(magnitude < constant(143 << 23, "uint32", lanes), small, infinite)
    half = T.Cast(vector("uint16", lanes), T.bitwise_or(result, sign))
    return T.reinterpret(vector("float16", lanes), half)
