"""The queries of a task as registers, in the order in which lines of keys come apart.

Codes c of quantised keys, with scales s and zeros z of their group, need not become numbers one by one::

    q · k_j  =  Σ_d (q_d · s_d) · c_jd  +  Σ_d q_d · z_d

The factors in parentheses and the second sum, the bias, are computed once for each group, where groups and chunks
begin together and no vector of keys lies in two groups (``Plan.scales_queries``). They replace those of the group
before: copies for all groups of a chunk would not fit the L1 cache.
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
    """Rows of queries as they are, or scaled for one group of keys.

    Args:
        q: all queries as stored, a matrix of rows of ``dim``.
        k: the keys they will meet.
    """

    def __init__(self, plan: Plan, words: Words, q: Any, k: Cache) -> None:
        self._plan, self._v, self._q, self._k = plan, words, q, k
        self._registers = T.alloc_buffer((plan.rows, plan.registers, plan.lanes), words.register)
        self._biases = T.alloc_buffer((plan.rows,), "float32") if plan.scales_queries else None

    def fill(self, head: Any) -> None:
        """Read the rows of a head of keys, unless :meth:`scale` does."""
        if self._biases is None:
            with T.serial(T.int64(0), T.int64(self._plan.rows)) as row:
                self._fill_row(head * self._plan.rows + row, row)

    def scale(self, head: Any, start: Any, key: Any) -> None:
        """Before the vector of keys from ``key`` on, in the chunk that begins at ``start``: where a group begins, rows
        scaled for it."""
        plan, size = self._plan, T.int64(self._plan.cache_group)
        if self._biases is None:
            return
        with T.If(T.floormod(key, size) == 0), T.Then():
            factors = self._v.let(head * plan.cache_groups + T.floordiv(start + key, size))
            with T.serial(T.int64(0), T.int64(plan.rows)) as row:
                self._fill_row(head * plan.rows + row, row, factors)

    def register(self, row: Any, index: Any) -> Any:
        """One vector of a row, as loaded where it is used."""
        return self._registers[row, index, T.Ramp(0, 1, self._plan.lanes)]

    def biased(self, row: Any, scores: Any) -> Any:
        """A vector of sums over ``dim``, the bias added if there is one."""
        if self._biases is None:
            return scores
        return self._v.let(scores + self._v.spread(self._biases[row]))

    def _fill_row(self, at: Any, row: Any, factors: Any = None) -> None:
        """A row, with zeros where a line overlaps the one before; scaled by row ``factors`` of the scales."""
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
                T.buffer_store(self._registers, value, [row, index * len(parts) + part, T.Ramp(0, 1, plan.lanes)])
        if bias is not None:
            T.buffer_store(self._biases, bias.reduce(lambda a, b: a + b, [0]), [row])

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
