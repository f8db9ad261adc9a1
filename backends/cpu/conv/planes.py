"""Padded copies of bands of the input: a plane for each channel and each remainder of rows and columns modulo the
stride, see :class:`fettle.backends.cpu.conv.geometry.Geometry`."""

from __future__ import annotations

from typing import Any

from tvm.tirx.script.builder import ir as T

from fettle.backends.cpu.conv.geometry import Geometry
from fettle.backends.cpu.gemv.words import pieces, read, splat, store


class Planes:
    """The planes of a task, allocated where the loop over tasks is open. ``x`` is [n, c, h, w]."""

    def __init__(self, g: Geometry, x: Any) -> None:
        self.g, self.x = g, x
        self.buffer = T.alloc_buffer((g.input_size,), "float32", align=64)

    def copy(self, image: Any, row0: Any, c0: Any, length: Any) -> None:
        """Rows of ``length`` channels of x that the band from output row ``row0`` needs, zeros where padding is."""
        g, stride = self.g, self.g.stride[1]
        with T.serial(0, length) as c, T.serial(0, g.row_phases) as phase, T.serial(0, g.plane_rows) as row:
            source = (row0 + row) * g.stride[0] + phase - g.top
            for column_phase in range(g.column_phases):
                plane = (phase * g.column_phases + column_phase) * g.plane_rows + row
                start = c * g.channel + plane * g.plane_columns
                first = min(g.plane_columns, max(0, -((column_phase - g.left) // stride)))
                last = min(g.plane_columns, max(first, -((column_phase - g.left - g.w) // stride)))
                with T.If(T.And(source >= 0, source < g.h)):
                    with T.Then():
                        self._zeros(start, 0, first)
                        column = first * stride + column_phase - g.left
                        self._copy_row(start + first, (image, c0 + c, source), column, last - first)
                        self._zeros(start, last, g.plane_columns)
                    with T.Else():
                        self._zeros(start, 0, g.plane_columns)

    def _copy_row(self, start: Any, row: tuple[Any, ...], column: int, count: int) -> None:
        """``count`` elements of a row of x, a stride apart from ``column`` on.

        Every second element is picked of two vectors, which read one beyond; the last is therefore copied alone.
        """
        stride = self.g.stride[1]
        alone = int(stride == 2 and count > 0)
        for first, lanes, times in pieces(count - alone, self.g.lanes if stride <= 2 else 1):
            with T.serial(0, times) as i:
                place = (*row, column + (first + i * lanes) * stride)
                value = read(self.x, place, lanes) if stride == 1 or lanes == 1 else self._every_second(place, lanes)
                store(self.buffer, start + first + i * lanes, value, lanes)
        if alone:
            store(self.buffer, start + count - 1, self.x[(*row, column + (count - 1) * stride)], 1)

    def _every_second(self, place: tuple[Any, ...], lanes: int) -> Any:
        *outer, first = place
        halves = [read(self.x, (*outer, first + half * lanes), lanes) for half in range(2)]
        return T.Shuffle(halves, list(range(0, 2 * lanes, 2)))

    def _zeros(self, start: Any, first: int, last: int) -> None:
        for begin, lanes, times in pieces(last - first, self.g.lanes):
            with T.serial(0, times) as i:
                store(self.buffer, start + first + begin + i * lanes, splat(T.float32(0), lanes), lanes)
