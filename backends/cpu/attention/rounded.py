"""Numbers as two signed bytes each, so that integer dot products multiply them with codes."""

from __future__ import annotations

from typing import Any

from tvm.tirx.script.builder import ir as T

from fettle.backends.cpu.gemv.integer import dot
from fettle.backends.cpu.gemv.words import fold

LANES = 16
"""32-bit lanes of a register."""

_LARGEST = 127.0 * 128.0
_TINY = 1e-30


class Rounded:
    """Rows of numbers as ``(128·high + low)·l + bias``, two signed bytes each, and what their products with codes need.

    Attributes:
        words: ``[2 · rows, columns / 4]`` int32: high bytes and low bytes of a row, four to a word.
        units, biases, offsets: l, the bias, and -h times the sum of a row's ``128·high + low``.
    """

    def __init__(self, rows: int, columns: int) -> None:
        self.words = T.alloc_buffer((2 * rows, columns // 4), "int32")
        self.units = T.alloc_buffer((rows,), "float32")
        self.biases = T.alloc_buffer((rows,), "float32")
        self.offsets = T.alloc_buffer((rows,), "int32")

    def begin(self, v: Any, row: Any, largest: Any, bias: Any) -> Rounding:
        """Start a row whose numbers are at most ``largest`` in size."""
        bounded = v.let(T.max(largest, T.float32(_TINY)))
        T.buffer_store(self.units, bounded * T.float32(1.0 / _LARGEST), [row])
        T.buffer_store(self.biases, bias, [row])
        return Rounding(self, v, row, v.spread(T.float32(_LARGEST) / bounded))

    def word(self, row: Any, half: int, place: Any) -> Any:
        """Four high (0) or low (1) bytes, in every lane."""
        return T.reinterpret("int8x64", T.Broadcast(self.words[row * 2 + half, place], LANES))

    def product(self, v: Any, row: Any, codes: list[Any]) -> Any:
        """Lane sums of a whole row times codes."""
        halves = []
        for half in range(2):
            total = v.integer(0)
            for i, register in enumerate(codes):
                stored = self.words[row * 2 + half, T.Ramp(T.int64(i * LANES), T.int64(1), LANES)]
                total = dot(total, register, T.reinterpret("int8x64", stored), LANES)
            halves.append(total)
        return v.hold(T.shift_left(halves[0], v.integer(7)) + halves[1], "int32")

    def scaled(self, v: Any, row: Any, total: Any) -> Any:
        """Sums of products with codes as numbers, their middle code taken off, the bias added."""
        centred = T.Cast(v.dtype, total + T.Broadcast(self.offsets[row], LANES))
        return v.let(v.multiply_add(centred, v.spread(self.units[row]), v.spread(self.biases[row])))


class Rounding:
    """A row of :class:`Rounded` in the making."""

    def __init__(self, rounded: Rounded, v: Any, row: Any, inverse: Any) -> None:
        self.rounded, self.v, self.row, self.inverse = rounded, v, row, inverse
        self.sum = T.alloc_buffer((LANES,), "int32")
        T.buffer_store(self.sum, v.integer(0), [T.Ramp(0, 1, LANES)])

    def put(self, column: Any, value: Any) -> None:
        """16 numbers, from ``column`` on."""
        v, ramp = self.v, T.Ramp(0, 1, LANES)
        whole = v.hold(T.Cast("int32x16", v.round(v.let(value * self.inverse))), "int32")
        T.buffer_store(self.sum, self.sum[ramp] + whole, [ramp])
        high = v.hold(T.shift_right(whole + v.integer(64), v.integer(7)), "int32")
        low = whole - T.shift_left(high, v.integer(7))
        place = T.floordiv(column, 4)
        for half, numbers in enumerate((high, low)):
            words = T.reinterpret("int32x4", T.Cast("int8x16", numbers))
            T.buffer_store(self.rounded.words, words, [self.row * 2 + half, T.Ramp(place, 1, 4)])

    def end(self, middle: int) -> None:
        total = fold(self.sum[T.Ramp(0, 1, LANES)], LANES, lambda a, b: a + b)
        T.buffer_store(self.rounded.offsets, total * T.int32(-middle), [self.row])
