"""Keys or values in memory, as f32 or bf16 registers: a line of one row at a time.

Quantised rows become ``code · scale + zero``, with a scale and a zero per channel and group of positions (keys), or
per position (values). The byte i of a row of 4-bit codes holds the elements 2i (low half) and 2i + 1.
"""

from __future__ import annotations

from typing import Any

from tvm.tirx.script.builder import ir as T

from fettle.backends.cpu.attention.orders import every_other
from fettle.backends.cpu.attention.plan import Plan
from fettle.backends.cpu.attention.words import Words


class Cache:
    """One operand of ``[batch · kv_heads · kv]`` rows.

    Attributes:
        data: matrix of the rows as stored.
        scales, zeros: ``[batch · kv_heads · groups, dim]`` of keys, ``[batch · kv_heads · kv, 1]`` of values.
    """

    def __init__(self, plan: Plan, words: Words, data: Any, scales: Any = None, zeros: Any = None) -> None:
        self.plan, self.words = plan, words
        self.data, self.scales, self.zeros = data, scales, zeros

    def line(self, row: Any, start: Any) -> list[Any]:
        """The elements from ``start`` on, whole or as the even and the odd ones."""
        plan, words, n = self.plan, self.words, self.plan.lanes
        if plan.cache == "f32":
            return [words.let(self.data[row, T.Ramp(start, T.int64(1), n)])]
        if plan.is_quantised:
            return self._quantised(row, start)
        raw = words.hold(T.reinterpret(f"int32x{n}", self.data[row, T.Ramp(start, T.int64(1), 2 * n)]), "int32")
        if plan.bf16:
            return [raw]
        even, odd = T.shift_left(raw, words.integer(16)), T.bitwise_and(raw, words.integer(-(1 << 16)))
        return [words.let(words.from_bits(even)), words.let(words.from_bits(odd))]

    def codes(self, row: Any, start: Any) -> list[Any]:
        """The codes of a line as f32, neither scaled nor shifted."""
        plan, words, n = self.plan, self.words, self.plan.lanes
        first = start if plan.parts == 1 else T.floordiv(start, T.int64(2))
        codes = words.hold(T.Cast(f"int32x{n}", self.data[row, T.Ramp(first, T.int64(1), n)]), "int32")
        parts = [codes]
        if plan.parts == 2:
            parts = [T.bitwise_and(codes, words.integer(15)), T.shift_right(codes, words.integer(4))]
        return [words.let(T.Cast(words.dtype, part)) for part in parts]

    def _quantised(self, row: Any, start: Any) -> list[Any]:
        words = self.words
        scales, zeros = (self._row_factors(factors, row, start) for factors in (self.scales, self.zeros))
        return [
            words.let(words.multiply_add(part, scale, zero))
            for part, scale, zero in zip(self.codes(row, start), scales, zeros, strict=True)
        ]

    def _row_factors(self, factors: Any, row: Any, start: Any) -> list[Any]:
        """Scales or zeros of a line, part by part."""
        plan, words = self.plan, self.words
        if int(factors.shape[1]) == 1:
            return [words.spread(factors[row, 0])] * plan.parts
        row = words.opaque(row)
        head, key = T.floordiv(row, T.int64(plan.kv)), T.floormod(row, T.int64(plan.kv))
        group = words.opaque(head * plan.cache_groups + T.floordiv(key, T.int64(plan.cache_group)))
        return self.factors(factors, group, start)

    def factors(self, factors: Any, group: Any, start: Any) -> list[Any]:
        """Scales or zeros of a group of keys for a line, part by part."""
        plan, words, n = self.plan, self.words, self.plan.lanes
        parts = [words.load(factors, [group, start + part * n]) for part in range(plan.parts)]
        return parts if plan.parts == 1 else [T.Shuffle(parts, every_other(odd, n)) for odd in (0, 1)]
