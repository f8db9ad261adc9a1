"""The pipelined softmax: maximum, exponentials and results of three rows in one pass over their columns."""

from __future__ import annotations

from typing import Any

from tvm.tirx.script.builder import ir as T

from fettle.backends.cpu.rows.loops import store_result, sweep, sweep_aligned
from fettle.backends.cpu.rows.softmax_block import LOWEST, Block
from fettle.backends.cpu.rows.streaming import end_streaming
from fettle.backends.cpu.rows.vectors import Scalar

_AHEAD = 1 << 14
"""Bytes of x that ``pipelined`` asks for ahead: with so many instructions to a line, the core itself looks only a few
lines ahead, and the hardware prefetchers stop at every page. 8 KB to 64 KB are equally good."""


class Pipeline:
    """Consecutive rows of one thread, two at least: every step of it is one pass over up to three rows."""

    def __init__(self, kernel: Block) -> None:
        self.k = kernel
        v = kernel.v
        self.kept = T.alloc_buffer((kernel.cols,), "float32")  # e^(x-m) of the last row that was exponentiated
        self.floats = v.of_floats()
        self.maxima, self.sums = kernel.registers(LOWEST), kernel.registers(0.0)
        self.top, self.scale = Scalar(T.float32(0)), Scalar(T.float32(0))

    def emit(self, first: Any, last: Any) -> None:
        """Rows ``first … last``."""
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
