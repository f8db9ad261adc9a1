"""Attention of few queries: the keys are split into chunks, one task each, and their results merged (flash-decoding).

For every head of keys and values, and every chunk of ``chunk`` keys, for all ``rows`` queries that share them::

    S[r, j] = q[r] · k[j]                   a line of k is loaded once for ``score_rows`` queries; sums are transposed
    m[r] = max_j S[r, j] / √dim             over visible keys
    P[r, j] = exp(S[r, j] / √dim - m[r])
    l[r] = Σ_j P[r, j],   O[r] = Σ_j P[r, j] · v[j]

Then ``y[r] = Σ_c w_c·O_c[r] / Σ_c w_c·l_c[r]`` over chunks c, with ``w_c = exp(m_c[r] - max_c m_c[r])``. Keys and
values are read once, as they lie in the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm.tirx.script.builder import ir as T

from fettle.backends.cpu.attention.cache import Cache
from fettle.backends.cpu.attention.orders import alternating, repeated
from fettle.backends.cpu.attention.plan import Plan
from fettle.backends.cpu.attention.queries import Queries
from fettle.backends.cpu.attention.weighing import Mask, Weighing
from fettle.backends.cpu.attention.words import LOWEST, Words, until
from fettle.backends.cpu.gemv.formats import Floats
from fettle.backends.cpu.rows.exp import exp
from fettle.backends.cpu.rows.vectors import Registers

_Key = Callable[[Any], Any]
"""The row of the cache that holds a key, by its number in a vector of keys."""

_Finish = Callable[[Any, Any], None]
"""Takes a row of the register tile and a vector of its scores."""


class Split:
    """Emits the kernel; all buffers are matrices of rows of ``dim``."""

    def __init__(self, plan: Plan, words: Words, q: Any, k: Cache, v: Cache, mask: Mask | None, y: Any) -> None:
        self.plan, self.v, self.mask = plan, words, mask
        self.q, self.k, self.values, self.y = q, k, v, y
        self.padded = -(-min(plan.chunk, plan.kv) // plan.lanes) * plan.lanes

    def emit(self) -> None:
        """The whole kernel."""
        plan, v = self.plan, self.v
        shared = plan.batch * plan.kv_heads
        partials = T.alloc_buffer((shared * plan.chunks * plan.rows, plan.dim), "float32")
        maxima = T.alloc_buffer((shared * plan.chunks * plan.rows,), "float32")
        sums = T.alloc_buffer((shared * plan.chunks * plan.rows,), "float32")
        with v.functions():
            with v.tasks(shared * plan.chunks, plan.threads) as task:
                self._chunk(v.let(task), partials, maxima, sums)
            with v.tasks(shared * plan.rows, plan.threads) as row:
                self._merge(v.let(row), partials, maxima, sums)

    # one chunk of keys

    def _chunk(self, task: Any, partials: Any, maxima: Any, sums: Any) -> None:
        plan, v = self.plan, self.v
        head, chunk = T.floordiv(task, plan.chunks), T.floormod(task, plan.chunks)
        start = v.let(chunk * plan.chunk)
        count = v.let(T.min(T.int64(plan.chunk), plan.kv - start))
        first = v.let(head * plan.kv + start)
        queries = Queries(plan, v, self.q, self.k)
        queries.fill(head)
        scores = T.alloc_buffer((plan.rows, self.padded), "float32")
        weights = T.alloc_buffer((plan.rows, self.padded // 2), "int32") if plan.bf16 else scores
        self._scores(scores, queries, head, start, first, count)
        with T.serial(T.int64(0), T.int64(plan.rows)) as row:
            self._softmax(scores, weights, row, start, count, maxima, sums, task * plan.rows + row)
        self._weighted(partials, weights, task * plan.rows, first, count)

    def _scores(self, scores: Any, queries: Queries, head: Any, begin: Any, first: Any, count: Any) -> None:
        """S, by vectors of keys; beyond ``count`` they repeat the last key's.

        Unrolled, keys that may repeat are a vector of their own: their addresses would not fit the registers.
        """
        plan, v, n = self.plan, self.v, self.plan.lanes
        unrolls, ends = plan.unrolls_keys, plan.kv % n != 0
        unsummed = T.alloc_buffer((plan.score_rows, n, n), "float32") if ends or not unrolls else None
        last = v.let(count - 1)

        def group(start: Any, may_repeat: bool, unrolled: bool) -> None:
            def key(index: Any) -> Any:
                return first + (T.min(start + index, last) if may_repeat else start + index)

            def tile(row: Any, rows: int) -> None:
                def finish(r: Any, value: Any) -> None:
                    T.buffer_store(scores, queries.biased(row + r, value), [row + r, T.Ramp(start, T.int64(1), n)])

                places = [row + r for r in range(rows)]
                if unrolled:
                    self._unrolled(queries, places, key, finish)
                else:
                    self._looped(unsummed, queries, places, key, finish)

            queries.scale(head, begin, start)
            until(plan.rows, plan.score_rows, tile)

        whole = v.let(T.floordiv(count if unrolls else count + (n - 1), T.int64(n)))
        with T.serial(T.int64(0), whole) as index:
            group(v.let(index * n), ends and not unrolls, unrolls)
        if ends and unrolls:
            with T.If(whole * n < count), T.Then():
                group(v.let(whole * n), True, False)

    def _unrolled(self, queries: Queries, places: list[Any], key: _Key, finish: _Finish) -> None:
        """Scores of a vector of keys, row by row: lane sums are added as soon as two are there."""
        stacks: list[list[tuple[int, Any]]] = [[] for _ in places]
        for start in range(0, self.plan.lanes, self.plan.keys):
            keys = [key(start + i) for i in range(self.plan.keys)]
            for stack, found in zip(stacks, self._products(queries, places, keys), strict=True):
                for value in found:
                    push(self.v, stack, value)
        for r, stack in enumerate(stacks):
            finish(r, stack[0][1])

    def _looped(self, unsummed: Any, queries: Queries, places: list[Any], key: _Key, finish: _Finish) -> None:
        """The same in a loop over the keys, with lane sums in memory until all are there."""
        plan, v, ramp = self.plan, self.v, T.Ramp(0, 1, self.plan.lanes)
        with T.serial(T.int64(0), T.int64(plan.lanes // plan.keys)) as step:
            indices = [v.let(step * plan.keys + i) for i in range(plan.keys)]
            for r, found in enumerate(self._products(queries, places, [key(index) for index in indices])):
                for index, value in zip(indices, found, strict=True):
                    T.buffer_store(unsummed, value, [r, index, ramp])
        with T.serial(T.int64(0), T.int64(len(places))) as row:
            stack: list[tuple[int, Any]] = []
            for index in range(plan.lanes):
                push(v, stack, v.let(unsummed[row, index, ramp]))
            finish(row, stack[0][1])

    def _products(self, queries: Queries, places: list[Any], keys: list[Any]) -> list[list[Any]]:
        """Lane sums of q[r] · k[j] for some rows and keys: ``[rows][keys]``."""
        plan, v = self.plan, self.v
        count = len(keys)
        slots = len(places) * count
        totals: Any = [v.constant(0.0)] * slots if plan.unrolls_lines else Registers(v, slots, 0.0)
        if plan.prefetch:
            for key in keys:
                for column in range(0, plan.cache_columns, 64 // plan.cache_bytes):
                    v.prefetch(self.k.data, [key + plan.prefetch, column])
        read = self.k.codes if plan.scales_queries else self.k.line

        def line(index: Any, start: Any) -> None:
            lines = [read(key, start) for key in keys]
            parts = len(lines[0])
            for part in range(parts):
                for r, place in enumerate(places):
                    query = queries.register(place, index * parts + part)
                    for slot, registers in enumerate(lines, r * count):
                        totals[slot] = v.let(v.dot(totals[slot], registers[part], query))

        if plan.unrolls_lines:
            for index, start in enumerate(plan.lines):
                line(index, T.int64(start))
        else:
            with T.serial(T.int64(0), T.int64(len(plan.lines))) as index:
                line(index, v.let(T.min(index * plan.line, T.int64(plan.lines[-1]))))
        return [[totals[r * count + i] for i in range(count)] for r in range(len(places))]

    def _softmax(
        self, scores: Any, weights: Any, row: Any, start: Any, count: Any, maxima: Any, sums: Any, at: Any
    ) -> None:
        """P of one row, and its maximum and sum; keys it does not see weigh nothing."""
        plan, v, n = self.plan, self.v, self.plan.lanes
        visible = count
        if plan.causal:
            last = plan.kv - plan.q + T.floormod(row, plan.q)
            visible = T.max(T.int64(0), T.min(count, last + 1 - start))
        visible = v.let(visible)
        masked = plan.causal or plan.kv % n or plan.chunk % n
        groups = v.let(T.floordiv(count + (n - 1), T.int64(n)))

        mask = None
        if self.mask is not None:  # ``at`` counts the rows of all chunks of all heads
            mask = self.mask.row(v.let(T.floordiv(at, T.int64(plan.chunks * plan.rows))), row, start)
        weighing = Weighing(plan, v, scores, row, groups, visible if masked else None, mask)
        top = v.let(weighing.top())
        total = weighing.store(weights, top)
        T.buffer_store(maxima, top, [at])
        T.buffer_store(sums, total, [at])

    def _weighted(self, partials: Any, weights: Any, at: Any, first: Any, count: Any) -> None:
        """O of all rows: of ``run`` keys, which stay in the L1 cache, for all register tiles, and then of the next."""
        plan, v, n = self.plan, self.v, self.plan.lanes
        vectors = len(plan.lines) * plan.parts
        sums = T.alloc_buffer((plan.rows, vectors, n), "float32")
        ramp = T.Ramp(0, 1, n)
        with T.serial(T.int64(0), T.int64(plan.rows)) as row, T.serial(T.int64(0), T.int64(vectors)) as vector:
            T.buffer_store(sums, v.constant(0.0), [row, vector, ramp])
        with T.serial(T.int64(0), v.let(T.floordiv(count + (plan.run - 1), T.int64(plan.run)))) as index:
            begin = v.let(index * plan.run)
            self._add_run(sums, weights, first, begin, v.let(T.min(T.int64(plan.run), count - begin)))
        with T.serial(T.int64(0), T.int64(plan.rows)) as row:
            for index, start in enumerate(plan.lines):
                places = range(index * plan.parts, (index + 1) * plan.parts)
                values = [v.let(sums[row, place, ramp]) for place in places]
                self._write_line(partials, at + row, T.int64(start), values)

    def _add_run(self, sums: Any, weights: Any, first: Any, begin: Any, count: Any) -> None:
        """``count`` keys from ``begin`` on: a panel of ``tile_vectors`` vectors of ``dim`` for ``tile_rows`` rows at a
        time."""
        plan, v, n = self.plan, self.v, self.plan.lanes

        def panel(line: Any, lines: int) -> None:
            starts = [v.let(T.min((line + i) * plan.line, T.int64(plan.lines[-1]))) for i in range(lines)]
            vectors = lines * plan.parts

            def tile(row: Any, rows: int) -> None:
                totals = Registers(v, rows * vectors, 0.0)
                places = [
                    [row + r, line * plan.parts + i, T.Ramp(0, 1, n)] for r in range(rows) for i in range(vectors)
                ]
                for slot, place in enumerate(places):
                    totals[slot] = sums[tuple(place)]

                def step(key: Any, place: Any, ahead: Any) -> None:
                    registers = [
                        r for start in starts for r in self._value_registers(first + key, first + ahead, start)
                    ]
                    for r in range(rows):
                        weight = T.Broadcast(weights[row + r, place], n)
                        for i, register in enumerate(registers):
                            slot = r * vectors + i
                            totals[slot] = v.dot(totals[slot], register, weight)

                if plan.bf16:
                    with T.serial(T.int64(0), v.let(T.floordiv(count, T.int64(2)))) as pair:
                        key = begin + pair * 2
                        step(key, T.floordiv(begin, T.int64(2)) + pair, key + 1)
                    if plan.kv % 2:  # the odd key meets itself, with weight zero
                        with T.If(T.floormod(count, T.int64(2)) == 1), T.Then():
                            last = v.let(begin + count - 1)
                            step(last, T.floordiv(last, T.int64(2)), last)
                else:
                    with T.serial(T.int64(0), count) as index:
                        step(begin + index, begin + index, begin + index)
                for slot, place in enumerate(places):
                    T.buffer_store(sums, totals[slot], place)

            until(plan.rows, plan.tile_rows, tile)

        until(len(plan.lines), max(1, plan.tile_vectors // plan.parts), panel)

    def _value_registers(self, key: Any, other: Any, start: Any) -> list[Any]:
        """A line of v as registers; if bf16, of two keys with their elements side by side, as one instruction each puts
        them: the lower halves of every 128 bits, then the upper ones."""
        plan, v, n = self.plan, self.v, self.plan.lanes
        if not plan.bf16:
            return self.values.line(key, start)
        place = T.Ramp(start, T.int64(1), plan.line)
        pair = [T.reinterpret(f"uint16x{plan.line}", self.values.data[row, place]) for row in (key, other)]
        registers = []
        for half in (0, 4):
            order = repeated(alternating(half, 4, plan.line), 8, plan.line)
            registers.append(v.hold(T.reinterpret(f"int32x{n}", T.Shuffle(pair, order)), "int32"))
        return registers

    def _write_line(self, partials: Any, row: Any, start: Any, values: list[Any]) -> None:
        """Sums of one line to memory, in the order of ``dim``: the reverse of :meth:`_value_registers`."""
        plan, v, n = self.plan, self.v, self.plan.lanes
        if plan.bf16:
            order = repeated((*range(4), *range(n, n + 4)), 4, n)
            values = [T.Shuffle(values, order[:n]), T.Shuffle(values, order[n:])]
        elif plan.parts == 2:
            values = list(v.interleave(*values))
        for part, value in enumerate(values):
            T.buffer_store(partials, value, [row, T.Ramp(start + part * n, T.int64(1), n)])

    # all chunks of one row

    def _merge(self, row: Any, partials: Any, maxima: Any, sums: Any) -> None:
        plan, v, n = self.plan, self.v, self.plan.lanes
        head, inner = T.floordiv(row, plan.rows), T.floormod(row, plan.rows)
        base = v.let(head * plan.chunks * plan.rows + inner)
        top = Registers(v, 1, LOWEST)
        with T.serial(T.int64(0), T.int64(plan.chunks)) as chunk:
            top[0] = T.max(T.Broadcast(maxima[base + chunk * plan.rows], n), top[0])
        starts = [start + part * n for start in plan.lines for part in range(plan.parts)]
        totals, total = Registers(v, len(starts), 0.0), Registers(v, 1, 0.0)
        with T.serial(T.int64(0), T.int64(plan.chunks)) as chunk:
            at = v.let(base + chunk * plan.rows)
            below = v.let(T.Broadcast(maxima[at], n) - top[0])
            weight = exp(v, below, plan.degree, non_positive=True, precise=False)
            total[0] = v.multiply_add(weight, T.Broadcast(sums[at], n), total[0])
            for slot, start in enumerate(starts):
                totals[slot] = v.multiply_add(weight, v.load(partials, [at, T.int64(start)]), totals[slot])
        share = v.constant(1.0) / total[0]
        if self.mask is not None:  # it may hide all keys from a query
            share = v.where(total[0] > v.constant(0.0), share, v.constant(0.0))
        share = v.let(share)
        act = Floats(plan.act)
        for slot, start in enumerate(starts):
            act.store(self.y, (row, T.int64(start)), v.let(totals[slot] * share), n)


def push(v: Words, stack: list[tuple[int, Any]], value: Any, dtype: str = "float32") -> None:
    """Add a vector of lane sums; merge equals, so that few wait in registers."""
    width = 1
    while stack and stack[-1][0] == width:
        value = v.pair(stack.pop()[1], value, width, dtype)
        width *= 2
    stack.append((width, value))
