"""The split kernel with integer dot products over a quantised cache: codes are multiplied as they lie.

Per head of keys and values, with codes c, scales s, zeros z, a middle code h, and for each query row r::

    q[r]·k[j] = Σ_d (q_d·s_d)·(c_jd - h)  +  Σ_d q_d·(z_d + h·s_d)         s, z of the group of keys that j is in
    O[r, d]   = Σ_j (P_j·s_j)·(c_jd - h)  +  Σ_j P_j·(z_j + h·s_j)         s, z of position j

In each line the left sum meets the codes in ``vpdpbusd``, and the right one is a number that is computed once. What is
multiplied, ``q·s`` of a group and ``P·s`` of a chunk, is rounded to ``(128·high + low)·l`` with two signed bytes and
l = max/(127·128): it is wrong by 2^-15 of the largest, where bfloat16 would lose 2^-9 of each. Sums are exact: codes up
to 255, ``dim`` ≤ 256 and chunks of at most 512 keys keep them below 2^31.
"""

from __future__ import annotations

from typing import Any

from tvm.tirx.script.builder import ir as T

from fettle.backends.cpu.attention.orders import alternating, every_other, repeated
from fettle.backends.cpu.attention.plan import CODE_BYTES
from fettle.backends.cpu.attention.rounded import LANES, Rounded, Rounding
from fettle.backends.cpu.attention.split import Split, push
from fettle.backends.cpu.attention.words import until
from fettle.backends.cpu.gemv.formats import Floats
from fettle.backends.cpu.gemv.integer import dot
from fettle.backends.cpu.rows.vectors import Registers

_KEYS = 4
"""Keys whose products one lane adds."""


class Integers(Split):
    """Emits the kernel. Needs registers of 512 bits, and codes that fill them."""

    def _chunk(self, task: Any, partials: Any, maxima: Any, sums: Any) -> None:
        plan, v = self.plan, self.v
        head, chunk = T.floordiv(task, plan.chunks), T.floormod(task, plan.chunks)
        start = v.let(chunk * plan.chunk)
        count = v.let(T.min(T.int64(plan.chunk), plan.kv - start))
        first = v.let(head * plan.kv + start)
        self.queries = Rounded(plan.rows * plan.chunk_groups, plan.dim)
        with T.serial(T.int64(0), T.int64(plan.rows)) as row, T.serial(T.int64(0), T.int64(plan.chunk_groups)) as group:
            stored = T.min(T.floordiv(start, T.int64(plan.cache_group)) + group, T.int64(plan.cache_groups - 1))
            self._round_query(row, row * plan.chunk_groups + group, head, v.let(head * plan.cache_groups + stored))
        scores = T.alloc_buffer((plan.rows, self.padded), "float32")
        self._scores_of_codes(scores, first, count)
        self.weights = Rounded(plan.rows, self.padded)
        with T.serial(T.int64(0), T.int64(plan.rows)) as row:
            self._softmax(scores, scores, row, start, count, maxima, sums, task * plan.rows + row)
            self._round_weights(scores, row, first, count)
        self._weighted(partials, None, task * plan.rows, first, count)

    # keys

    def _round_query(self, row: Any, place: Any, head: Any, group: Any) -> None:
        """``q·s`` of a row and a group of keys, elements in the order in which codes come out of bytes."""
        plan, v = self.plan, self.v
        act = Floats(plan.act)
        products = T.alloc_buffer((plan.dim,), "float32")
        largest, bias = Registers(v, 1, 0.0), Registers(v, 1, 0.0)
        with T.serial(T.int64(0), T.int64(plan.dim // LANES)) as piece:
            d = piece * LANES
            query = v.let(act.read(self.q, (head * plan.rows + row, d), LANES))
            product = v.let(query * v.load(self.k.scales, [group, d]))
            T.buffer_store(products, product, [T.Ramp(d, T.int64(1), LANES)])
            largest[0] = T.max(largest[0], T.abs(product))
            bias[0] = v.multiply_add(query, v.load(self.k.zeros, [group, d]), bias[0])
            bias[0] = v.multiply_add(product, v.constant(plan.middle_code), bias[0])
        top = largest.reduce(T.max, [0])
        rounding = self.queries.begin(v, place, top, bias.reduce(lambda a, b: a + b, [0]))
        with T.serial(T.int64(0), T.int64(plan.cache_columns // LANES)) as piece:
            self._round_piece(rounding, products, piece)
        rounding.end(plan.middle_code)

    def _round_piece(self, rounding: Rounding, products: Any, piece: Any) -> None:
        """What meets the codes in 16 bytes."""
        v = self.v
        if self.plan.code_bits == 8:
            rounding.put(piece * LANES, v.load(products, [piece * LANES]))
            return
        register, quarter = T.floordiv(piece, T.int64(4)) * 2, T.floormod(piece, T.int64(4))
        neighbours = [v.load(products, [(piece * 2 + half) * LANES]) for half in range(2)]
        for odd in range(2):  # a register has the even elements of a line, the next one the odd ones
            column = v.let(((register + odd) * 4 + quarter) * LANES)
            rounding.put(column, v.let(T.Shuffle(neighbours, every_other(odd, LANES))))

    def _scores_of_codes(self, scores: Any, first: Any, count: Any) -> None:
        plan, v = self.plan, self.v

        def group(start: Any, last: Any) -> None:
            keys = [first + (start + i if last is None else T.min(start + i, last)) for i in range(LANES)]
            shared = v.let(T.floordiv(start, T.int64(plan.cache_group)))

            def tile(row: Any, rows: int) -> None:
                places = [v.let((row + r) * plan.chunk_groups + shared) for r in range(rows)]
                stacks: list[list[tuple[int, Any]]] = [[] for _ in range(rows)]
                for begin in range(0, LANES, plan.keys):
                    lines = [self._codes(key) for key in keys[begin : begin + plan.keys]]
                    for r, place in enumerate(places):
                        for line in lines:
                            push(v, stacks[r], self.queries.product(v, place, line), "int32")
                for r, place in enumerate(places):
                    ((_, total),) = stacks[r]
                    value = self.queries.scaled(v, place, total)
                    T.buffer_store(scores, value, [row + r, T.Ramp(start, T.int64(1), LANES)])

            until(plan.rows, plan.score_rows, tile)

        whole = v.let(T.floordiv(count, T.int64(LANES)))
        with T.serial(T.int64(0), whole) as index:
            group(v.let(index * LANES), None)
        if plan.kv % LANES:
            with T.If(whole * LANES < count), T.Then():
                group(v.let(whole * LANES), v.let(count - 1))

    def _codes(self, key: Any) -> list[Any]:
        """The codes of a key, a byte each, in registers."""
        plan, v = self.plan, self.v
        registers = []
        if plan.prefetch:
            for column in range(0, plan.cache_columns, CODE_BYTES):
                v.prefetch(self.k.data, [key + plan.prefetch, column])
        for column in range(0, plan.cache_columns, CODE_BYTES):
            registers += self._split(self._line(self.k.data, key, T.int64(column)))
        return registers

    def _line(self, data: Any, row: Any, column: Any) -> Any:
        return self.v.hold(data[row, T.Ramp(column, T.int64(1), CODE_BYTES)], "uint8", CODE_BYTES)

    def _split(self, line: Any) -> list[Any]:
        """Bytes as codes: themselves, or their low and their high halves."""
        plan, v = self.plan, self.v
        if plan.cache == "u8":
            return [line]
        mask = T.Broadcast(T.uint8(15), CODE_BYTES)
        words = T.shift_right(T.reinterpret("uint16x32", line), T.Broadcast(T.uint16(4), 32))
        high = T.bitwise_and(T.reinterpret(f"uint8x{CODE_BYTES}", words), mask)
        return [v.hold(T.bitwise_and(line, mask), "uint8", CODE_BYTES), v.hold(high, "uint8", CODE_BYTES)]

    # values

    def _round_weights(self, scores: Any, row: Any, first: Any, count: Any) -> None:
        """``P·s`` of a row."""
        plan, v = self.plan, self.v
        total = plan.batch * plan.kv_heads * plan.kv
        stored = (self.values.scales, self.values.zeros)
        scales, zeros = (T.decl_buffer((total,), "float32", data=factors.data, align=4) for factors in stored)
        products = T.alloc_buffer((self.padded,), "float32")
        largest, bias = Registers(v, 1, 0.0), Registers(v, 1, 0.0)
        groups = v.let(T.floordiv(count + (LANES - 1), T.int64(LANES)))
        with T.serial(T.int64(0), groups) as index:
            mask = v.first(count - index * LANES) if plan.kv % LANES else None
            weight = v.let(scores[row, T.Ramp(index * LANES, T.int64(1), LANES)])
            product = v.let(weight * v.load(scales, [first + index * LANES], mask))
            T.buffer_store(products, product, [T.Ramp(index * LANES, T.int64(1), LANES)])
            largest[0] = T.max(largest[0], T.abs(product))
            bias[0] = v.multiply_add(weight, v.load(zeros, [first + index * LANES], mask), bias[0])
            bias[0] = v.multiply_add(product, v.constant(plan.middle_code), bias[0])
        top = largest.reduce(T.max, [0])
        rounding = self.weights.begin(v, row, top, bias.reduce(lambda a, b: a + b, [0]))
        with T.serial(T.int64(0), groups) as index:
            rounding.put(index * LANES, products[T.Ramp(index * LANES, T.int64(1), LANES)])
        rounding.end(plan.middle_code)

    def _weighted(self, partials: Any, weights: Any, at: Any, first: Any, count: Any) -> None:
        """O of all rows: ``tile_vectors`` quarters of a line of codes for ``tile_rows`` rows at a time."""
        plan, v = self.plan, self.v
        pieces = plan.dim // LANES
        sums = T.alloc_buffer((plan.rows * pieces, LANES), "float32")
        steps = v.let(T.floordiv(count + (_KEYS - 1), T.int64(_KEYS)))
        with T.serial(T.int64(0), T.int64(plan.cache_columns // CODE_BYTES)) as line:
            for quarter in range(0, 4, plan.tile_vectors):
                quarters = range(quarter, quarter + plan.tile_vectors)

                def tile(row: Any, rows: int, quarters: range = quarters) -> None:
                    self._sum_quarters(sums, row, rows, line, quarters, first, count, steps)

                until(plan.rows, plan.tile_rows, tile)
        with T.serial(T.int64(0), T.int64(plan.rows)) as row:
            self._write_rows(partials, sums, row, at + row)

    def _sum_quarters(
        self, sums: Any, row: Any, rows: int, line: Any, quarters: range, first: Any, count: Any, steps: Any
    ) -> None:
        """Sums over the chunk of some quarters of a line, for some rows."""
        plan, v = self.plan, self.v
        parts = 8 // plan.code_bits
        slots = [(r, i, part) for r in range(rows) for i in range(len(quarters)) for part in range(parts)]
        totals = T.alloc_buffer((2 * len(slots), LANES), "int32")
        ramp = T.Ramp(0, 1, LANES)
        for slot in range(2 * len(slots)):
            T.buffer_store(totals, v.integer(0), [slot, ramp])
        with T.serial(T.int64(0), steps) as step:
            lines = []
            for i in range(_KEYS):
                key = step * _KEYS + i
                row_of_key = first + (T.min(key, count - 1) if plan.kv % _KEYS else key)
                lines.append(self._line(self.values.data, row_of_key, line * CODE_BYTES))
            codes = [self._split(quarter) for quarter in _interleaved(v, lines, quarters)]
            for half in range(2):
                for slot, (r, i, part) in enumerate(slots):
                    weight = self.weights.word(row + r, half, step)
                    total = dot(totals[2 * slot + half, ramp], codes[i][part], weight, LANES)
                    T.buffer_store(totals, total, [2 * slot + half, ramp])
        for slot, (r, i, part) in enumerate(slots):
            whole = T.shift_left(totals[2 * slot, ramp], v.integer(7)) + totals[2 * slot + 1, ramp]
            value = self.weights.scaled(v, row + r, whole)
            piece = (line * 4 + quarters[i]) * parts + part
            T.buffer_store(sums, value, [(row + r) * (plan.dim // LANES) + piece, ramp])

    def _write_rows(self, partials: Any, sums: Any, row: Any, to: Any) -> None:
        """Quarters of lines back in the order of ``dim``: lane 4·l + t of quarter i is byte 16·l + 4·i + t."""
        plan, v = self.plan, self.v
        parts = 8 // plan.code_bits
        base = v.let(row * (plan.dim // LANES))
        for line in range(plan.cache_columns // CODE_BYTES):
            halves = [
                [v.let(sums[base + (line * 4 + i) * parts + part, T.Ramp(0, 1, LANES)]) for i in range(4)]
                for part in range(parts)
            ]
            for block in range(4):
                order = repeated(range(4 * block, 4 * block + 4), LANES, 4 * LANES)
                vectors = [v.let(T.Shuffle(half, order)) for half in halves]
                if parts == 2:
                    vectors = [v.let(x) for x in v.interleave(*vectors)]
                for part, vector in enumerate(vectors):
                    d = ((line * 4 + block) * parts + part) * LANES
                    T.buffer_store(partials, vector, [to, T.Ramp(T.int64(d), T.int64(1), LANES)])


def _interleaved(v: Any, lines: list[Any], quarters: range) -> list[Any]:
    """Bytes of four lines side by side, a word for each place of a line; quarter i has the bytes 16·l + 4·i … + 3.

    First bytes of two lines in turn: of every 16, the lower 8 (half 0) or the upper 8. Then pairs of bytes in turn: of
    every 8 pairs, the lower 4 or the upper 4.
    """
    pairs: dict[tuple[int, int], Any] = {}

    def pair(first: int, half: int) -> Any:
        if (first, half) not in pairs:
            order = repeated(alternating(8 * half, 8, CODE_BYTES), 16, CODE_BYTES)
            shuffled = T.Shuffle([lines[first], lines[first + 1]], order)
            pairs[first, half] = v.hold(T.reinterpret("uint16x32", shuffled), "uint16", 32)
        return pairs[first, half]

    result = []
    for quarter in quarters:
        half, upper = divmod(quarter, 2)
        order = repeated(alternating(4 * upper, 4, CODE_BYTES // 2), 8, CODE_BYTES // 2)
        words = T.Shuffle([pair(0, half), pair(2, half)], order)
        result.append(v.hold(T.reinterpret(f"uint8x{CODE_BYTES}", words), "uint8", CODE_BYTES))
    return result
