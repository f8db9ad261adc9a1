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
from fettle.backends.cpu.rows.loops import for_each_row, sweep
from fettle.backends.cpu.rows.softmax_block import LOWEST, Block
from fettle.backends.cpu.rows.softmax_pipeline import Pipeline
from fettle.backends.cpu.rows.spaces import split_part
from fettle.backends.cpu.rows.streaming import streaming


def lower(candidate: Candidate) -> Any:
    """TensorIR of a softmax candidate."""
    rows, cols = candidate.workload["rows"], candidate.workload["cols"]
    shapes = [("x", (rows, cols)), ("y", (rows, cols))]
    return function(shapes, partial(_body, candidate), str(candidate.workload["act"]))


def _body(candidate: Candidate, x: Any, y: Any) -> None:
    kernel = Block(candidate, x, y)
    v, block, threads = kernel.v, kernel.block, candidate.schedule["threads"]
    with streaming(v, y, kernel.streams):
        if candidate.schedule["split"] > 1:
            _split(kernel, candidate.schedule["split"], threads)
            return
        if candidate.schedule["algorithm"] == "pipelined":
            with v.tasks(threads, threads) as thread:
                first, last = (v.let(T.floordiv(kernel.rows * turn, threads)) for turn in (thread, thread + 1))
                Pipeline(kernel).emit(first, last)
            return
        with v.tasks(kernel.rows // block, threads) as task:
            first = v.let(task * block)
            if candidate.schedule["algorithm"] == "three_pass":
                _three_pass(kernel, first)
            else:
                kernel.write(first, kernel.statistics(first, 0, kernel.cols), 0, kernel.cols)


def _three_pass(k: Block, first: Any) -> None:
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


def _split(k: Block, parts: int, threads: int) -> None:
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
