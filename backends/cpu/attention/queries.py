"""The queries of a task as registers, in the order in which lines of keys come apart.

Codes c of quantised keys, with scales s and zeros z of their group, need not become numbers one by one::

    q · k_j  =  Σ_d (q_d · s_d) · c_jd  +  Σ_d q_d · z_d

The factors in parentheses and the second sum, the bias, are computed once for each group, where groups and chunks
begin together and no vector of keys lies in two groups (``Plan.scales_queries``).
"""

from __future__ import annotations

from typing import Any

from tvm.tirx.script.builder import ir as T

from fettle.backends.cpu.attention.cache import Cache
from fettle.backends.cpu.attention.orders import every_other
from fettle.backends.cpu.attention.plan import Plan
from fettle.backends.cpu.attention.words import Words
from fettle.backends.cpu.gemv.formats import Floats
from fettle.backends.cpu.rows.vectors import Registers


class Queries:
    """Rows of ``rows · groups`` copies, one for each group of keys of a chunk if they are scaled, else one.

    Attributes:
        step: copies of a row.

    Args:
        q: all queries as stored, a matrix of rows of ``dim``.
        k: the keys they will meet.
    """

    def __init__(self, plan: Plan, words: Words, q: Any, k: Cache) -> None:
        self._plan, self._v, self._q, self._k = plan, words, q, k
        self.step = plan.chunk_groups if plan.scales_queries else 1
        copies = plan.rows * self.step
        self._registers = T.alloc_buffer((copies, plan.registers, plan.lanes), words.register)
        self._biases = T.alloc_buffer((copies,), "float32") if plan.scales_queries else None

    def fill(self, head: Any, start: Any) -> None:
        """Read the rows of a head of keys, for the chunk that begins at the key ``start``."""
        plan, first = self._plan, head * self._plan.rows
        with T.serial(T.int64(0), T.int64(plan.rows)) as row:
            if self._biases is None:
                self._fill_row(first + row, row)
            else:
                with T.serial(T.int64(0), T.int64(self.step)) as group:
                    stored = T.min(T.floordiv(start, T.int64(plan.cache_group)) + group, T.int64(plan.cache_groups - 1))
                    factors = self._v.let(head * plan.cache_groups + stored)
                    self._fill_row(first + row, row * self.step + group, factors)

    def place(self, row: Any, key: Any) -> Any:
        """Where the copy of a row is that meets a vector of keys, from ``key`` of the chunk on; :attr:`step` further is
        the next row's."""
        if self._biases is None:
            return row
        return self._v.let(row * self.step + T.floordiv(key, T.int64(self._plan.cache_group)))

    def register(self, place: Any, index: Any) -> Any:
        """One vector of a copy, as loaded where it is used."""
        return self._registers[place, index, T.Ramp(0, 1, self._plan.lanes)]

    def biased(self, place: Any, scores: Any) -> Any:
        """A vector of sums over ``dim``, the bias added if there is one."""
        if self._biases is None:
            return scores
        return self._v.let(scores + self._v.spread(self._biases[place]))

    def _fill_row(self, at: Any, place: Any, factors: Any = None) -> None:
        """A row, with zeros where a line overlaps the one before; scaled by the row ``factors`` of scales."""
        plan, v = self._plan, self._v
        bias = None if factors is None else Registers(v, 1, 0.0)
        for index, start in enumerate(plan.lines):
            parts = [self._pairs(at, index)] if plan.bf16 else self._numbers(at, index)
            if bias is not None:
                for value, zero in zip(parts, self._k.factors(self._k.zeros, factors, T.int64(start)), strict=True):
                    bias[0] = v.multiply_add(value, zero, bias[0])
                scales = self._k.factors(self._k.scales, factors, T.int64(start))
                parts = [value * scale for value, scale in zip(parts, scales, strict=True)]
            for part, value in enumerate(parts):
                T.buffer_store(self._registers, value, [place, index * len(parts) + part, T.Ramp(0, 1, plan.lanes)])
        if bias is not None:
            T.buffer_store(self._biases, bias.reduce(lambda a, b: a + b, [0]), [place])

    def _pairs(self, at: Any, index: int) -> Any:
        """A line of bf16, as it lies."""
        plan, start = self._plan, self._plan.lines[index]
        overlap = index * plan.line - start
        raw = T.reinterpret(f"uint16x{plan.line}", self._q[at, T.Ramp(T.int64(start), T.int64(1), plan.line)])
        if overlap:
            fresh = T.Ramp(0, 1, plan.line) >= T.Broadcast(T.int32(overlap), plan.line)
            raw = T.Select(fresh, raw, T.Broadcast(T.uint16(0), plan.line))
        return T.reinterpret(f"int32x{plan.lanes}", raw)

    def _numbers(self, at: Any, index: int) -> list[Any]:
        """A line as f32, whole or as the even and the odd elements."""
        plan, v, n, start = self._plan, self._v, self._plan.lanes, self._plan.lines[index]
        overlap = index * plan.line - start
        parts = []
        for part in range(plan.parts):
            value = Floats(plan.act).read(self._q, (at, T.int64(start + part * n)), n)
            if overlap > part * n:
                fresh = T.Ramp(part * n, 1, n) >= T.Broadcast(T.int32(overlap), n)
                value = T.Select(fresh, value, v.constant(0.0))
            parts.append(v.let(value))
        if plan.parts == 1:
            return parts
        return [v.let(T.Shuffle(parts, every_other(odd, n))) for odd in (0, 1)]
