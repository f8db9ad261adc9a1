"""Neighbouring rows of a softmax that one task computes, interleaved: their maxima, sums and results."""

from __future__ import annotations

from typing import Any

from tvm.tirx.script.builder import ir as T

from fettle.backends.api import Candidate
from fettle.backends.cpu.rows.exp import exp
from fettle.backends.cpu.rows.loops import for_each_row, in_chunks, sweep, write_rows
from fettle.backends.cpu.rows.vectors import Registers, Scalar, Vectors

LOWEST = -3.4028234663852886e38


class Block:
    """``block`` rows of one task, and what its schedule says of them."""

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
