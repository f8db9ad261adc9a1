"""Softmax kernels. Per row, with m the largest x:

three_pass   m;  y = e^(x-m) and Σy;  y = y / Σ                        reads x twice, y once; writes y twice
two_pass     per chunk: m and Σ e^(x-m), the sum rescaled when m grows;  y = e^(x-m) / Σ
                                                                       reads x twice, writes y once; exp twice
online       m and Σ e^(x-m) value by value, in every lane for itself;  y = e^(x-m) / Σ
                                                                       the same traffic; reads each x of a chunk once
pipelined    m of row r+1, e^(x-m) and Σ of row r, y = e^(x-m) / Σ of row r-1, all in one pass over their columns
                                                                       reads x twice, writes y once; exp once

two_pass and online are the online softmax of Milakov & Gimelshein (1805.02867): the former by chunks that fit in the
L1 cache, the latter with one exponential a value, since of e^(m-m') and e^(x-m') one is e^-|x-m| and the other is 1.

pipelined is for what no cache holds: reading the next row and writing the last one take memory's time while the
exponentials of the row between them take the core's. Its exponentials wait in one row of scratch memory.

A row may be split into ``split`` parts. Then all parts leave their maximum and sum in memory, and only after that is
any part written: two parallel regions, in each of which one row keeps several threads busy.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from tvm.tirx.script.builder import ir as T

from fettle.backends.api import Candidate
from fettle.backends.cpu.rows.arrays import function
from fettle.backends.cpu.rows.exp import exp
from fettle.backends.cpu.rows.loops import (
    for_each_row,
    in_chunks,
    store_result,
    sweep,
    sweep_aligned,
    write_rows,
)
from fettle.backends.cpu.rows.spaces import split_part
from fettle.backends.cpu.rows.streaming import end_streaming, streaming
from fettle.backends.cpu.rows.vectors import Registers, Scalar, Vectors

LOWEST = -3.4028234663852886e38

_AHEAD = 1 << 14
"""Bytes of x that ``pipelined`` asks for ahead: with so many instructions to a line, the core itself looks only a few
lines ahead, and the hardware prefetchers stop at every page. 8 KB to 64 KB are equally good."""


def lower(candidate: Candidate) -> Any:
    """TensorIR of a softmax candidate."""
    rows, cols = candidate.workload["rows"], candidate.workload["cols"]
    shapes = [("x", (rows, cols)), ("y", (rows, cols))]
    return function(shapes, partial(_body, candidate), str(candidate.workload["act"]))


def _body(candidate: Candidate, x: Any, y: Any) -> None:
    kernel = _Kernel(candidate, x, y)
    v, block, threads = kernel.v, kernel.block, candidate.schedule["threads"]
    with streaming(v, y, kernel.streams):
        if candidate.schedule["split"] > 1:
            _split(kernel, candidate.schedule["split"], threads)
            return
        if candidate.schedule["algorithm"] == "pipelined":
            with v.tasks(threads, threads) as thread:
                first, last = (v.let(T.floordiv(kernel.rows * turn, threads)) for turn in (thread, thread + 1))
                _Pipeline(kernel).emit(first, last)
            return
        with v.tasks(kernel.rows // block, threads) as task:
            first = v.let(task * block)
            if candidate.schedule["algorithm"] == "three_pass":
                _three_pass(kernel, first)
            else:
                kernel.write(first, kernel.statistics(first, 0, kernel.cols), 0, kernel.cols)


class _Kernel:
    """What one task works with: ``block`` neighbouring rows, interleaved."""

    def __init__(self, candidate: Candidate, x: Any, y: Any) -> None:
        workload, schedule = candidate.workload, candidate.schedule
        self.v = Vectors(candidate.device, str(workload["act"]))
        self.x, self.y = x, y
        self.rows, self.cols = workload["rows"], workload["cols"]
        self.unroll, self.block, self.degree = schedule["unroll"], schedule["row_block"], schedule["degree"]
        self.chunk, self.streams = schedule["chunk"], schedule["stream"]
        self.statistics = self.online if schedule["algorithm"] == "online" else self.by_chunks

    def registers(self, value: float) -> Registers:
        """One for each vector in flight of each row."""
        return Registers(self.v, self.unroll * self.block, value)

    def slots(self, row: int) -> list[int]:
        """The registers of one row of the block."""
        return [slot * self.block + row for slot in range(self.unroll)]

    def exp(self, x: Any) -> Any:
        return exp(self.v, x, self.degree, non_positive=True, precise=False)

    def update_maxima(self, first: Any, maxima: Registers, start: Any, count: Any) -> None:
        """Maxima of every row, lane by lane, over ``count`` columns from ``start``."""

        def body(row: int, offset: Any, slot: int, mask: Any) -> None:
            register = slot * self.block + row
            value = self.v.load(self.x, [first + row, offset], mask, LOWEST)
            maxima[register] = T.max(value, maxima[register])

        sweep(self.v, count, self.unroll, for_each_row(self.block, body), start)

    def add_exponentials(
        self, first: Any, maxima: list[Any], sums: Registers, start: Any, count: Any, keep: bool
    ) -> None:
        """Add e^(x-m) of every row to its sums, over ``count`` columns from ``start``; ``keep`` writes them to y."""

        def body(row: int, offset: Any, slot: int, mask: Any) -> None:
            register = slot * self.block + row
            value = self.exp(self.v.let(self.v.load(self.x, [first + row, offset], mask) - maxima[row]))
            if keep:
                self.v.store(self.y, [first + row, offset], value, mask)
            added = value if mask is None else self.v.where(mask, value, self.v.constant(0.0))
            sums[register] = sums[register] + added

        sweep(self.v, count, self.unroll, for_each_row(self.block, body), start)

    def total(self, sums: Registers, row: int) -> Any:
        """The sum of one row."""
        return sums.reduce(lambda a, b: a + b, self.slots(row))

    def by_chunks(self, first: Any, start: Any, count: Any) -> list[tuple[Any, Any]]:
        """(m, Σ e^(x-m)) of every row, over ``count`` columns from ``start``: ``two_pass``."""
        v = self.v
        tops = [Scalar(T.float32(LOWEST)) for _ in range(self.block)]
        sums = self.registers(0.0)

        def visit(at: Any, width: Any) -> None:
            maxima = self.registers(LOWEST)
            self.update_maxima(first, maxima, at, width)
            for row, top in enumerate(tops):
                highest = v.let(T.max(top.get(), maxima.reduce(T.max, self.slots(row))))
                shrink = self.exp(v.spread(top.get() - highest))
                for slot in self.slots(row):
                    sums[slot] = sums[slot] * shrink
                top.set(highest)
            self.add_exponentials(first, [v.spread(top.get()) for top in tops], sums, at, width, keep=False)

        in_chunks(v, count, self.chunk, visit, start)
        return [(v.let(top.get()), v.let(self.total(sums, row))) for row, top in enumerate(tops)]

    def online(self, first: Any, start: Any, count: Any) -> list[tuple[Any, Any]]:
        """(m, Σ e^(x-m)) of every row, over ``count`` columns from ``start``: ``online``."""
        v = self.v
        maxima, sums = self.registers(LOWEST), self.registers(0.0)

        def body(row: int, offset: Any, slot: int, mask: Any) -> None:
            register = slot * self.block + row
            value = v.load(self.x, [first + row, offset], mask, LOWEST)
            before, total, one = v.let(maxima[register]), v.let(sums[register]), v.constant(1.0)
            grows = value > before
            smaller = self.exp(v.let(v.where(grows, before - value, value - before)))  # e^-|x-m|
            scaled = v.where(grows, v.multiply_add(total, smaller, one), total + smaller)
            sums[register] = scaled if mask is None else v.where(mask, scaled, total)
            maxima[register] = T.max(value, before)

        sweep(v, count, self.unroll, for_each_row(self.block, body), start)
        found = []
        for row in range(self.block):
            top = v.let(maxima.reduce(T.max, self.slots(row)))
            for slot in self.slots(row):
                sums[slot] = sums[slot] * self.exp(v.let(maxima[slot] - v.spread(top)))
            found.append((top, v.let(self.total(sums, row))))
        return found

    def write(self, first: Any, statistics: list[tuple[Any, Any]], start: Any, count: Any) -> None:
        """y of every row, over ``count`` columns from ``start``."""
        v = self.v
        tops = [v.spread(top) for top, _ in statistics]
        scales = [v.spread(T.float32(1) / total) for _, total in statistics]

        def result(row: int, offset: Any, mask: Any) -> Any:
            return self.exp(v.let(v.load(self.x, [first + row, offset], mask) - tops[row])) * scales[row]

        write_rows(
            v, self.y, first, self.block, result, unroll=self.unroll, streams=self.streams, start=start, count=count
        )


def _three_pass(k: _Kernel, first: Any) -> None:
    """A block of rows: e^(x-m) is left in y, and scaled there."""
    v = k.v
    maxima = k.registers(LOWEST)
    k.update_maxima(first, maxima, 0, k.cols)
    tops = [v.spread(maxima.reduce(T.max, k.slots(row))) for row in range(k.block)]
    sums = k.registers(0.0)
    k.add_exponentials(first, tops, sums, 0, k.cols, keep=True)
    scales = [v.spread(T.float32(1) / k.total(sums, row)) for row in range(k.block)]

    def scale(row: int, offset: Any, slot: int, mask: Any) -> None:
        value = v.load(k.y, [first + row, offset], mask)
        v.store(k.y, [first + row, offset], value * scales[row], mask)

    sweep(v, k.cols, k.unroll, for_each_row(k.block, scale))


class _Pipeline:
    """Consecutive rows of one thread, two at least: every step of it is one pass over up to three rows."""

    def __init__(self, kernel: _Kernel) -> None:
        self.k = kernel
        v = kernel.v
        self.kept = T.alloc_buffer((kernel.cols,), "float32")  # e^(x-m) of the last row that was exponentiated
        self.floats = v.of_floats()
        self.maxima, self.sums = kernel.registers(LOWEST), kernel.registers(0.0)
        self.top, self.scale = Scalar(T.float32(0)), Scalar(T.float32(0))

    def emit(self, first: Any, last: Any) -> None:
        self._step(maximum=first)
        self._step(maximum=first + 1, exponentials=first)
        with T.serial(first + 2, last) as row:
            self._step(maximum=row, exponentials=row - 1, result=row - 2)
        self._step(exponentials=last - 1, result=last - 2)
        self._step(result=last - 1)
        if self.k.streams:
            end_streaming()

    def _step(self, maximum: Any = None, exponentials: Any = None, result: Any = None) -> None:
        """The maximum of one row, the exponentials of the row before, the result of the one before that."""
        k, v, kept = self.k, self.k.v, self.kept
        top, scale = v.spread(self.top.get()), v.spread(self.scale.get())

        def body(offset: Any, slot: int, mask: Any) -> None:
            if maximum is not None:
                v.prefetch(k.x, maximum * k.cols + offset + _AHEAD // v.size)
                self.maxima[slot] = T.max(v.load(k.x, [maximum, offset], mask, LOWEST), self.maxima[slot])
            if result is not None:  # makes room for the exponentials of the next row
                value = self.floats.load(kept, [offset], mask) * scale
                store_result(v, k.y, result, offset, v.let(value), mask, streams=k.streams)
            if exponentials is not None:
                value = k.exp(v.let(v.load(k.x, [exponentials, offset], mask) - top))
                self.floats.store(kept, [offset], value, mask)
                added = value if mask is None else v.where(mask, value, v.constant(0.0))
                self.sums[slot] = self.sums[slot] + added

        if result is not None and k.streams:
            sweep_aligned(v, k.y, result, k.cols, k.unroll, body)
        else:
            sweep(v, k.cols, k.unroll, body)
        slots = k.slots(0)
        if maximum is not None:
            self.top.set(self.maxima.reduce(T.max, slots))
            self.maxima.fill(LOWEST)
        if exponentials is not None:
            self.scale.set(T.float32(1) / k.total(self.sums, 0))
            self.sums.fill(0.0)


def _split(k: _Kernel, parts: int, threads: int) -> None:
    """Every row in ``parts`` parts: first what each part has, then, knowing all, what each part becomes."""
    v, part = k.v, split_part(k.cols, parts)
    tops, sums = (T.alloc_buffer((k.rows * parts,), "float32") for _ in range(2))

    def each(body: Callable[[Any, Any, Any, Any], None]) -> None:
        with v.tasks(k.rows * parts, threads) as task:
            row, start = v.let(T.floordiv(task, parts)), v.let(T.floormod(task, parts) * part)
            count = part if k.cols % part == 0 else v.let(T.min(T.int64(part), T.int64(k.cols) - start))
            body(task, row, start, count)

    def gather(task: Any, row: Any, start: Any, count: Any) -> None:
        ((top, total),) = k.statistics(row, start, count)
        T.buffer_store(tops, top, [task])
        T.buffer_store(sums, total, [task])

    def spread(task: Any, row: Any, start: Any, count: Any) -> None:
        places = [row * parts + i for i in range(parts)]
        top = tops[places[0]]
        for place in places[1:]:
            top = T.max(tops[place], top)
        top = v.let(top)
        total = T.float32(0)
        for place in places:
            shrink = T.Shuffle([k.exp(v.spread(tops[place] - top))], [0])
            total = v.let(total + sums[place] * shrink)
        k.write(row, [(top, total)], start, count)

    each(gather)
    each(spread)
