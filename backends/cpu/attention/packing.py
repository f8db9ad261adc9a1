"""Keys and values rearranged for tiles: see ``tiles.py`` for the layouts. Rows beyond ``kv`` repeat the last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm.tirx.script.builder import ir as T

from fettle.backends.cpu.attention.cache import Cache
from fettle.backends.cpu.attention.plan import Plan
from fettle.backends.cpu.attention.words import Words
from fettle.backends.cpu.gemv.words import transposed


class Packing:
    """Packed copies in memory of the kernel's own, and the loop that fills them.

    Attributes:
        keys: ``[heads · key_groups, dim_units, lanes]`` registers.
        values: ``[heads · key_units, dim_vectors · lanes]`` registers.
    """

    def __init__(self, plan: Plan, words: Words, k: Cache, v: Cache) -> None:
        self._plan, self._words = plan, words
        self._k, self._v = k, v
        heads = plan.batch * plan.kv_heads
        self.keys = T.alloc_buffer((heads * plan.key_groups, plan.dim_units, plan.lanes), words.register)
        self.values = T.alloc_buffer((heads * plan.key_units, plan.dim_vectors * plan.lanes), words.register)

    def emit(self) -> None:
        """Pack groups of ``lanes`` keys, as parallel tasks."""
        plan, words = self._plan, self._words
        used = -(-plan.kv // plan.lanes)
        with words.tasks(plan.batch * plan.kv_heads * used, plan.threads) as task:
            head, group = words.let(T.floordiv(task, used)), words.let(T.floormod(task, used))

            def row(key: int) -> Any:
                return head * plan.kv + T.min(group * plan.lanes + key, T.int64(plan.kv - 1))

            self._each_line(lambda start: self._pack_keys(head * plan.key_groups + group, row, start))
            units = words.let(head * plan.key_units + group * (plan.lanes // plan.unit))
            self._each_line(lambda start: self._pack_values(units, row, start))

    def _each_line(self, body: Callable[[Any], None]) -> None:
        line = self._plan.line
        with T.serial(T.int64(0), T.int64(self._plan.dim // line)) as index:
            body(self._words.let(index * line))
        if self._plan.dim % line:
            body(T.int64(self._plan.dim - line))

    def _pack_keys(self, group: Any, row: Callable[[int], Any], start: Any) -> None:
        plan, words, n = self._plan, self._words, self._plan.lanes
        lines = [self._k.line(row(key), start) for key in range(n)]
        parts = len(lines[0])
        unit = T.floordiv(start, T.int64(plan.unit))
        for part in range(parts):
            square = transposed([line[part] for line in lines], lambda register: words.hold(register, words.register))
            for i, register in enumerate(square):
                T.buffer_store(self.keys, register, [group, unit + i * parts + part, T.Ramp(0, 1, n)])

    def _pack_values(self, units: Any, row: Callable[[int], Any], start: Any) -> None:
        plan, words, n = self._plan, self._words, self._plan.lanes
        for unit in range(n // plan.unit):
            if plan.bf16:
                registers = words.side_by_side(self._v.data, row(2 * unit), row(2 * unit + 1), start)
            else:
                registers = self._v.line(row(unit), start)
                if len(registers) == 2:
                    registers = list(words.interleave(*registers))
            for part, register in enumerate(registers):
                place = T.Ramp(start + part * n, T.int64(1), n)
                T.buffer_store(self.values, register, [units + unit, place])
