"""Softmax kernels. Per row, with m the largest x:

three_pass   m;  y = e^(x-m) and Σy;  y = y / Σ                        reads x twice, y once; writes y twice
two_pass     per chunk: m and Σ e^(x-m), the sum rescaled when m grows;  y = e^(x-m) / Σ
                                                                       reads x twice, writes y once; exp twice
two_pass is the online softmax of Milakov & Gimelshein (1805.02867), by chunks that fit in the L1 cache.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from tvm.tirx.script.builder import ir as T

from fettle.backends.api import Candidate
from fettle.backends.cpu.rows.exp import exp
from fettle.backends.cpu.rows.vectors import Registers, Scalar, Vectors, for_each_row, function
from fettle.graph.errors import BuildFailure

LOWEST = -3.4028234663852886e38


def lower(candidate: Candidate) -> Any:
    """TensorIR of a softmax candidate."""
    rows, cols = candidate.workload["rows"], candidate.workload["cols"]
    shapes = [("x", (rows, cols)), ("y", (rows, cols))]
    return function(shapes, partial(_body, candidate), str(candidate.workload["act"]))


def _body(candidate: Candidate, x: Any, y: Any) -> None:
    schedule = candidate.schedule
    v = Vectors(candidate.device, str(candidate.workload["act"]))
    rows, cols = candidate.workload["rows"], candidate.workload["cols"]
    algorithms: dict[str, Callable[..., None]] = {"three_pass": _three_pass, "two_pass": _two_pass}
    kernel = _Kernel(
        v,
        x,
        y,
        cols,
        schedule["unroll"],
        schedule["row_block"],
        schedule["degree"],
        schedule["chunk"],
        schedule["stream"],
    )
    if schedule["algorithm"] not in algorithms:
        raise BuildFailure(f"softmax has no algorithm {schedule['algorithm']!r}")

    with v.scope(y, kernel.streams), v.tasks(rows // kernel.block, schedule["threads"]) as task:
        algorithms[schedule["algorithm"]](kernel, v.let(task * kernel.block))


class _Kernel:
    """What one task works with: ``block`` neighbouring rows, interleaved."""

    def __init__(
        self, v: Vectors, x: Any, y: Any, cols: int, unroll: int, block: int, degree: int, chunk: int, streams: bool
    ) -> None:
        self.v, self.x, self.y, self.cols = v, x, y, cols
        self.unroll, self.block, self.degree, self.chunk, self.streams = unroll, block, degree, chunk, streams

    def registers(self, value: float) -> Registers:
        return Registers(self.v, self.unroll * self.block, value)

    def slots(self, row: int) -> list[int]:
        """The registers of one row of the block."""
        return [slot * self.block + row for slot in range(self.unroll)]

    def exp(self, x: Any) -> Any:
        return exp(self.v, x, self.degree, non_positive=True, precise=False)

    def update_maxima(self, first: Any, maxima: Registers, start: Any, count: int) -> None:
        def body(offset: Any, slot: int, mask: Any) -> None:
            for row in range(self.block):
                register = slot * self.block + row
                value = self.v.load(self.x, [first + row, offset], mask, LOWEST)
                maxima[register] = T.max(value, maxima[register])

        self.v.sweep(count, self.unroll, body, start)

    def add_exponentials(
        self, first: Any, maxima: list[Any], sums: Registers, start: Any, count: int, keep: bool
    ) -> None:
        def body(offset: Any, slot: int, mask: Any) -> None:
            for row in range(self.block):
                register = slot * self.block + row
                value = self.exp(self.v.let(self.v.load(self.x, [first + row, offset], mask) - maxima[row]))
                if keep:
                    self.v.store(self.y, [first + row, offset], value, mask)
                added = value if mask is None else self.v.where(mask, value, self.v.constant(0.0))
                sums[register] = sums[register] + added

        self.v.sweep(count, self.unroll, body, start)

    def reciprocals(self, sums: Registers) -> list[Any]:
        v = self.v
        return [v.spread(T.float32(1) / sums.reduce(lambda a, b: a + b, self.slots(row))) for row in range(self.block)]


def _three_pass(k: _Kernel, first: Any) -> None:
    v = k.v
    maxima = k.registers(LOWEST)
    k.update_maxima(first, maxima, 0, k.cols)
    tops = [v.spread(maxima.reduce(T.max, k.slots(row))) for row in range(k.block)]
    sums = k.registers(0.0)
    k.add_exponentials(first, tops, sums, 0, k.cols, keep=True)
    scales = k.reciprocals(sums)

    def scale(offset: Any, slot: int, mask: Any) -> None:
        for row in range(k.block):
            value = v.load(k.y, [first + row, offset], mask)
            v.store(k.y, [first + row, offset], value * scales[row], mask)

    v.sweep(k.cols, k.unroll, scale)


def _two_pass(k: _Kernel, first: Any) -> None:
    v = k.v
    tops = [Scalar(T.float32(LOWEST)) for _ in range(k.block)]
    sums = k.registers(0.0)

    def visit(start: Any, count: int) -> None:
        maxima = k.registers(LOWEST)
        k.update_maxima(first, maxima, start, count)
        for row, top in enumerate(tops):
            highest = v.let(T.max(top.get(), maxima.reduce(T.max, k.slots(row))))
            shrink = k.exp(v.spread(top.get() - highest))
            for slot in k.slots(row):
                sums[slot] = sums[slot] * shrink
            top.set(highest)
        k.add_exponentials(first, [v.spread(top.get()) for top in tops], sums, start, count, keep=False)

    chunks, rest = divmod(k.cols, k.chunk)
    if chunks:
        with T.serial(T.int64(0), T.int64(chunks)) as chunk:
            visit(v.let(chunk * k.chunk), k.chunk)
    if rest:
        visit(T.int64(chunks * k.chunk), rest)
    highest = [v.spread(top.get()) for top in tops]
    scales = k.reciprocals(sums)

    def write(row: int, offset: Any, slot: int, mask: Any) -> None:
        value = k.exp(v.let(v.load(k.x, [first + row, offset], mask) - highest[row])) * scales[row]
        if k.streams and mask is None:
            v.stream(k.y, (first + row) * k.cols + offset, value)
        else:
            v.store(k.y, [first + row, offset], value, mask)

    if k.streams:
        for row in range(k.block):
            v.stream_row(k.y, first + row, k.cols, k.unroll, partial(write, row))
        v.end_streaming()
    else:
        v.sweep(k.cols, k.unroll, for_each_row(k.block, write))
