"""The end of a register tile: the epilogue, rounding to the result's format, and only the columns that exist."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

from tvm.tirx.script.builder import ir as T

from fettle.backends.api import Device
from fettle.backends.cpu.dense.geometry import Geometry
from fettle.backends.cpu.dense.operands import first_column, full_or_rest
from fettle.backends.cpu.gemv.formats import Floats
from fettle.backends.cpu.gemv.words import Registers
from fettle.backends.cpu.rows.elementwise import evaluate
from fettle.backends.cpu.rows.vectors import Vectors


class Finish:
    """Writes register tiles to y.

    A tile that needs no arithmetic and is whole goes to y straight from the registers. Any other goes through
    a small buffer, so that its code is a loop and not one copy for each register.
    """

    def __init__(self, g: Geometry, device: Device, y: Any, rows: list[Any], full: list[Any]) -> None:
        self.g, self.y, self.rows, self.full = g, y, rows, full
        self.vectors = Vectors(device)
        self.floats = Floats(g.out)
        self.is_plain = g.epilogue is None and g.out == "f32"
        self.tile_buffer: Any = None
        self.lane_buffer: Any = None

    def allocate(self) -> None:
        """Emit the buffers; once in each task."""
        g = self.g
        self.tile_buffer = T.alloc_buffer((g.micro_m, g.micro_n), "float32", align=64)
        self.lane_buffer = T.alloc_buffer((g.lanes,), "float32", align=64)

    def tile(self, acc: Registers, b: Any, row: Any, panel: Any, count: int) -> None:
        """Emit the stores of the first ``count`` rows of ``acc``."""
        g = self.g
        full, rest = g.whole_panels
        vectors = list(itertools.product(range(count), range(g.vectors)))

        def columns(width: int) -> None:
            if self.is_plain and width == g.micro_n:
                for r, v in vectors:
                    column = first_column(g, panel) + v * g.lanes
                    where = g.at(b, row * g.micro_m + r, T.ramp(column, 1, g.lanes))
                    T.buffer_store(self.y, acc[r * g.vectors + v], list(where))
                return
            for r, v in vectors:
                T.buffer_store(self.tile_buffer, acc[r * g.vectors + v], [r, T.ramp(v * g.lanes, 1, g.lanes)])
            self._rows(b, row, panel, count, width)

        full_or_rest(panel, full, rest, lambda: columns(g.micro_n), lambda: columns(rest))

    def buffered(self, b: Any, row: Any, panel: Any, count: int) -> None:
        """Emit the stores of the first ``count`` rows of ``tile_buffer``."""
        full, rest = self.g.whole_panels
        widths = (self.g.micro_n, rest)
        full_or_rest(panel, full, rest, *(partial(self._rows, b, row, panel, count, width) for width in widths))

    def _rows(self, b: Any, row: Any, panel: Any, count: int, width: int) -> None:
        with T.serial(0, count) as r:
            self._row(b, row * self.g.micro_m + r, r, first_column(self.g, panel), width)

    def _row(self, b: Any, m: Any, r: Any, n0: Any, width: int) -> None:
        lanes = self.g.lanes
        whole, rest = divmod(width, lanes)
        if whole:
            with T.serial(0, whole) as v:
                value = self._value(b, m, n0 + v * lanes, self.tile_buffer[r, T.ramp(v * lanes, 1, lanes)], lanes)
                self.floats.store(self.y, self.g.at(b, m, n0 + v * lanes), value, lanes)
        if rest:
            first = n0 + whole * lanes
            value = self._value(b, m, first, self.tile_buffer[r, T.ramp(whole * lanes, 1, lanes)], rest)
            T.buffer_store(self.lane_buffer, value, [T.ramp(0, 1, lanes)])
            with T.serial(0, rest) as lane:
                self.floats.store(self.y, self.g.at(b, m, first + lane), self.lane_buffer[lane], 1)

    def _value(self, b: Any, m: Any, n: Any, product: Any, count: int) -> Any:
        """The epilogue of ``count`` columns, in one vector."""
        if self.g.epilogue is None:
            return product
        operands = [
            self.vectors.let(product),
            *(self._operand(row, (n,), "f32", count) for row in self.rows),
            *(self._operand(full, self.g.at(b, m, n), self.g.out, count) for full in self.full),
        ]
        return evaluate(self.vectors, self.g.epilogue.expression, operands)

    def _operand(self, buffer: Any, place: tuple[Any, ...], kind: str, count: int) -> Any:
        """A vector of another operand of the epilogue, the first ``count`` lanes of it."""
        return self.vectors.let(Floats(kind).read_first(buffer, place, count, self.g.lanes))
