"""Attention of many queries: tiles of queries by blocks of keys, with a running softmax (FlashAttention, 2205.14135).

First all keys and values are packed, ``lanes`` keys side by side, so that products need no sums over lanes; a *unit*
is what one lane of a register holds, one f32 or two neighbouring bf16::

    K[head, j // lanes, d unit, j % lanes]          V[head, j unit, d]

Then for every ``block`` of query rows (a position's heads of one group next to each other), for every ``chunk`` of
keys that any of them sees::

    S = Q · Kᵀ                                      register tiles of tile_rows × tile_vectors vectors of keys
    m' = max(m, max S / √dim),  P = exp(S / √dim - m'),  l = l · exp(m - m') + Σ P,  O = O · exp(m - m')
    O = O + P · V                                   register tiles of tile_rows × tile_vectors vectors of dim

and at the end ``y = O / l``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm.tirx.script.builder import ir as T

from fettle.backends.cpu.attention.cache import Cache
from fettle.backends.cpu.attention.packing import Packing
from fettle.backends.cpu.attention.plan import Plan
from fettle.backends.cpu.attention.weighing import Mask, MaskRow, Weighing
from fettle.backends.cpu.attention.words import LOWEST, Words, until
from fettle.backends.cpu.gemv.formats import Floats
from fettle.backends.cpu.rows.exp import exp
from fettle.backends.cpu.rows.vectors import Registers


class Tiles:
    """Emits the kernel; all buffers are matrices of rows of ``dim``."""

    def __init__(self, plan: Plan, words: Words, q: Any, k: Cache, v: Cache, mask: Mask | None, y: Any) -> None:
        self.plan, self.v = plan, words
        self.q, self.mask, self.y = q, mask, y
        self.packing = Packing(plan, self.v, k, v)

    def emit(self) -> None:
        """The whole kernel."""
        plan, v = self.plan, self.v
        blocks = -(-plan.rows // plan.block)
        tasks = plan.batch * plan.kv_heads * blocks
        with v.functions():
            self.packing.emit()
            # in turn: causal blocks, and the last, differ in length
            with v.tasks(plan.threads, plan.threads) as thread:
                turns = T.floordiv(tasks - thread + (plan.threads - 1), T.int64(plan.threads))
                self._turns(turns, thread, blocks)

    def _turns(self, turns: Any, thread: Any, blocks: int) -> None:
        threads = self.plan.threads
        with T.serial(T.int64(0), turns) as turn:
            order = thread
            if threads > 1 and blocks % threads == 0:  # else a thread would get the same blocks of every head
                order = T.floormod(thread + T.floordiv(turn * threads, T.int64(blocks)), T.int64(threads))
            task = self.v.let(turn * threads + order)
            head, block = T.floordiv(task, blocks), T.floormod(task, blocks)
            _Block(self, self.v.let(head), self.v.let(block * self.plan.block)).emit()


class _Block:
    """One block of query rows, from ``first`` on, of one head of keys and values: as many register tiles as there are
    rows for."""

    def __init__(self, kernel: Tiles, head: Any, first: Any) -> None:
        plan, self.v = kernel.plan, kernel.v
        self.plan, self.kernel, self.head, self.first = plan, kernel, head, first
        n = plan.lanes
        rows = T.min(T.int64(plan.block), plan.rows - first)
        self.tiles = self.v.let(T.floordiv(rows + (plan.tile_rows - 1), T.int64(plan.tile_rows)))
        self.queries = T.alloc_buffer((plan.block, plan.dim_units), self.v.register)
        self.scores = T.alloc_buffer((plan.block, plan.chunk), "float32")
        self.weights = T.alloc_buffer((plan.block, plan.chunk // 2), "int32") if plan.bf16 else self.scores
        self.results = T.alloc_buffer((plan.block, plan.dim_vectors * n), "float32")
        self.maxima = T.alloc_buffer((plan.block,), "float32")
        self.sums = T.alloc_buffer((plan.block,), "float32")

    def emit(self) -> None:
        plan, v = self.plan, self.v
        with T.serial(T.int64(0), self.tiles * plan.tile_rows) as row:
            self._begin(row)
        visible: Any = T.int64(plan.kv)
        if plan.causal:
            last = T.min(self.first + (plan.block - 1), T.int64(plan.rows - 1))
            visible = v.let(self._visible(last))
        with T.serial(T.int64(0), v.let(T.floordiv(visible + (plan.chunk - 1), T.int64(plan.chunk)))) as index:
            start = v.let(index * plan.chunk)
            count = v.let(T.min(T.int64(plan.chunk), visible - start))
            self._multiply_keys(start, count)
            with T.serial(T.int64(0), self.tiles * plan.tile_rows) as row:
                self._softmax(row, start, count)
            self._multiply_values(start, count)
        with T.serial(T.int64(0), v.let(T.min(T.int64(plan.block), plan.rows - self.first))) as row:
            self._finish(row)

    def _visible(self, row: Any) -> Any:
        """How many keys a query row sees."""
        return T.floordiv(row, T.int64(self.plan.group)) + (self.plan.kv - self.plan.q + 1)

    def _memory_row(self, row: Any) -> Any:
        """Where a query row of the block lies; rows beyond the last repeat it."""
        plan = self.plan
        row = self.v.let(T.min(self.first + row, T.int64(plan.rows - 1)))
        position, inner = T.floordiv(row, T.int64(plan.group)), T.floormod(row, T.int64(plan.group))
        return self.v.let((self.head * plan.group + inner) * plan.q + position)

    def _begin(self, row: Any) -> None:
        """The query as units; nothing seen yet."""
        plan, v, n = self.plan, self.v, self.plan.lanes
        at = self._memory_row(row)
        for start in plan.lines:
            if plan.bf16:
                raw = self.kernel.q[at, T.Ramp(T.int64(start), T.int64(1), plan.line)]
                place = T.Ramp(T.int64(start // 2), T.int64(1), n)
                T.buffer_store(self.queries, T.reinterpret(f"int32x{n}", raw), [row, place])
                continue
            for at_dim in range(start, start + plan.line, n):
                value = Floats(plan.act).read(self.kernel.q, (at, T.int64(at_dim)), n)
                T.buffer_store(self.queries, value, [row, T.Ramp(T.int64(at_dim), T.int64(1), n)])
        for vector in range(plan.dim_vectors):
            T.buffer_store(self.results, v.constant(0.0), [row, T.Ramp(T.int64(vector * n), T.int64(1), n)])
        T.buffer_store(self.maxima, T.float32(LOWEST), [row])
        T.buffer_store(self.sums, T.float32(0), [row])

    def _multiply_keys(self, start: Any, count: Any) -> None:
        """S of a chunk, by panels of ``tile_vectors`` vectors of keys; what is left by narrower ones."""
        plan, v = self.plan, self.v
        groups = v.let(T.floordiv(count + (plan.lanes - 1), T.int64(plan.lanes)))
        width = plan.tile_vectors
        with T.serial(T.int64(0), v.let(T.floordiv(groups, T.int64(width)))) as panel:
            self._key_panel(start, panel * width, width)
        while width > 1:
            width //= 2
            if plan.causal or plan.last_groups & width:
                with T.If(T.bitwise_and(groups, T.int64(width)) != 0), T.Then():
                    self._key_panel(start, v.let(T.bitwise_and(groups, T.int64(-2 * width))), width)

    def _key_panel(self, start: Any, first: Any, wide: int) -> None:
        """S of ``wide`` vectors of keys, from the vector ``first`` of a chunk on."""
        plan, v, n = self.plan, self.v, self.plan.lanes
        keys = self.kernel.packing.keys
        group = v.let(self.head * plan.key_groups + T.floordiv(start, T.int64(n)) + first)

        def tile(row: Any, rows: int) -> None:
            totals = Registers(v, rows * wide, 0.0)
            with T.serial(T.int64(0), T.int64(plan.dim_units)) as unit:
                registers = [v.hold(keys[group + i, unit, T.Ramp(0, 1, n)], v.register) for i in range(wide)]
                self._outer(totals, registers, self.queries, row, rows, unit)
            for r in range(rows):
                for i in range(wide):
                    place = T.Ramp((first + i) * n, T.int64(1), n)
                    T.buffer_store(self.scores, totals[r * wide + i], [row + r, place])

        self._each_tile(tile)

    def _multiply_values(self, start: Any, count: Any) -> None:
        """O += P · V of a chunk, by panels of ``tile_vectors`` vectors of dim."""
        plan, v, n = self.plan, self.v, self.plan.lanes
        values = self.kernel.packing.values
        steps = v.let(T.floordiv(count + (plan.unit - 1), T.int64(plan.unit)))
        base = v.let(self.head * plan.key_units + T.floordiv(start, T.int64(plan.unit)))

        def panel(vector: Any, wide: int) -> None:
            places = [T.Ramp((vector + i) * n, T.int64(1), n) for i in range(wide)]

            def tile(row: Any, rows: int) -> None:
                totals = Registers(v, rows * wide, 0.0)
                for r in range(rows):
                    for i in range(wide):
                        totals[r * wide + i] = self.results[row + r, places[i]]
                with T.serial(T.int64(0), steps) as unit:
                    registers = [v.hold(values[base + unit, place], v.register) for place in places]
                    self._outer(totals, registers, self.weights, row, rows, unit)
                for r in range(rows):
                    for i in range(wide):
                        T.buffer_store(self.results, totals[r * wide + i], [row + r, places[i]])

            self._each_tile(tile)

        until(plan.dim_vectors, plan.tile_vectors, panel)

    def _each_tile(self, body: Callable[[Any, int], None]) -> None:
        """Call ``body(first row, rows)`` for the register tiles of the block."""
        rows = self.plan.tile_rows
        with T.serial(T.int64(0), self.tiles) as tile:
            body(tile * rows, rows)

    def _outer(self, totals: Registers, registers: list[Any], left: Any, row: Any, rows: int, unit: Any) -> None:
        """totals[r, i] += left[row + r, unit] · registers[i]."""
        v = self.v
        for r in range(rows):
            factor = v.hold(T.Broadcast(left[row + r, unit], v.lanes), v.register)
            for i, register in enumerate(registers):
                slot = r * len(registers) + i
                totals[slot] = v.dot(totals[slot], register, factor)

    def _softmax(self, row: Any, start: Any, count: Any) -> None:
        """P of one row and chunk; maximum, sum and result of the row follow the new maximum."""
        plan, v, n = self.plan, self.v, self.plan.lanes
        groups = v.let(T.floordiv(count + (n - 1), T.int64(n)))
        seen = count
        if plan.causal:
            seen = v.let(T.max(T.int64(0), T.min(count, self._visible(self.first + row) - start)))
        if not plan.causal and plan.kv % n == 0:
            self._weigh(row, start, groups, None)
            return
        with T.If(seen == groups * n):
            with T.Then():
                self._weigh(row, start, groups, None)
            with T.Else():
                self._weigh(row, start, groups, seen)

    def _mask(self, row: Any, start: Any) -> MaskRow | None:
        """The mask's row for a row of the block."""
        if self.kernel.mask is None:
            return None
        at = self.v.let(T.min(self.first + row, T.int64(self.plan.rows - 1)))
        position, inner = T.floordiv(at, T.int64(self.plan.group)), T.floormod(at, T.int64(self.plan.group))
        return self.kernel.mask.row(self.head, self.v.let(inner * self.plan.q + position), start)

    def _weigh(self, row: Any, start: Any, groups: Any, seen: Any) -> None:
        """:meth:`_softmax` where all keys, or the first ``seen``, are visible."""
        plan, v, n = self.plan, self.v, self.plan.lanes
        weighing = Weighing(plan, v, self.scores, row, groups, seen, self._mask(row, start))
        highest = weighing.top()
        before = v.let(self.maxima[row])
        top = v.let(T.max(before, highest))
        with T.If(top > before), T.Then():
            shrink = exp(v, v.spread(before - top), plan.degree, non_positive=True, precise=False)
            for vector in range(plan.dim_vectors):
                place = T.Ramp(T.int64(vector * n), T.int64(1), n)
                T.buffer_store(self.results, self.results[row, place] * shrink, [row, place])
            T.buffer_store(self.sums, self.sums[row] * T.Shuffle([shrink], [0]), [row])
            T.buffer_store(self.maxima, top, [row])
        total = weighing.store(self.weights, top)
        T.buffer_store(self.sums, self.sums[row] + total, [row])

    def _finish(self, row: Any) -> None:
        """y of one row."""
        plan, v, n = self.plan, self.v, self.plan.lanes
        at = self._memory_row(row)
        total = v.let(self.sums[row])
        share = T.float32(1) / total
        if self.kernel.mask is not None:  # it may hide all keys from a query
            share = T.Select(total > T.float32(0), share, T.float32(0))
        share = v.spread(share)
        for start in plan.lines:
            for at_dim in range(start, start + plan.line, n):
                value = v.let(v.load(self.results, [row, T.int64(at_dim)]) * share)
                Floats(plan.act).store(self.kernel.y, (at, T.int64(at_dim)), value, n)
