"""The direct convolution as TensorIR::

    for task (image, group of channels × band of rows × tile of output channels)     split over threads
      for block of tile_c channels
        copy the band's input into padded planes
        for register tile along the run, for panel of output channels   or the other way round: ``inner``
          acc[micro_oc, vectors] from the task's sums after the first block
          for c, for tap: acc[o, :] += W[c, tap, o] · plane[c][position + shift(tap) …]
          acc to the task's sums
      sums, finished by the epilogue, to the elements of y that exist

Weights are read from ``W[panel, c, tap, micro_oc]``, the panels of one group after another. Where nothing is copied
(``input=in_place``), the loops are those of ``pointwise.py``.
"""

from __future__ import annotations

import itertools
from typing import Any

from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as T

from fettle.backends.api import Device
from fettle.backends.cpu.conv.geometry import Geometry
from fettle.backends.cpu.conv.pointwise import multiply
from fettle.backends.cpu.gemv.words import Registers, argument, pieces, read, splat, store
from fettle.backends.cpu.rows.arrays import viewed
from fettle.backends.cpu.rows.elementwise import evaluate
from fettle.backends.cpu.rows.vectors import Vectors

_UNROLLED_TAPS = 9
"""Filters up to this size are unrolled whole, larger ones a row at a time, wider ones not at all."""


def emit(g: Geometry, device: Device) -> Any:
    """The ``PrimFunc`` of a geometry; parameters (x, full operands, W, rows, y)."""
    images, channels = g.n // g.group, g.group * g.oc
    result = (images, channels, g.rows, g.columns)
    by_group = (g.n, g.oc, *((g.rows * g.columns,) if g.in_place else (g.rows, g.columns)))
    count = (g.epilogue.rows, g.epilogue.operands) if g.epilogue else (0, 0)
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("conv2d")
        T.func_attr({"tirx.noalias": True})
        x = argument("x", (images, g.group * g.c, g.h, g.w), "float32")
        full = [argument(f"x{i}", result, "float32") for i in range(count[1])]
        w = argument("w", (g.group * g.panels, g.c, g.taps, g.micro_oc), "float32")
        rows = [argument(f"b{i}", (channels,), "float32") for i in range(count[0])]
        y = argument("y", result, "float32")
        x = viewed(x, (g.n, g.c, g.h * g.w) if g.in_place else (g.n, g.c, g.h, g.w), "f32")
        y, *full = (viewed(buffer, by_group, "f32") for buffer in (y, *full))
        if g.in_place:
            multiply(g, Vectors(device), x, w, y, rows, full)
        else:
            _Emitter(g, Vectors(device), x, w, y, rows, full).tasks()
    return builder.get()


class _Emitter:
    """Writes the loops of one kernel into the IR builder that is open."""

    def __init__(self, g: Geometry, vectors: Vectors, x: Any, w: Any, y: Any, rows: list[Any], full: list[Any]) -> None:
        self.g, self.vectors, self.x, self.w, self.y, self.rows, self.full = g, vectors, x, w, y, rows, full

    def tasks(self) -> None:
        """The outer loops."""
        g = self.g
        loop = T.parallel if g.threads > 1 and g.tasks > 1 else T.serial
        with loop(0, g.tasks) as task:
            image, rest = task // (g.bands * g.oc_tiles), task % (g.bands * g.oc_tiles)
            row0, panel0 = rest // g.oc_tiles * g.tile_h, rest % g.oc_tiles * g.tile_oc
            planes = T.alloc_buffer((g.input_size,), "float32", align=64)
            sums = T.alloc_buffer((g.tile_oc, g.micro_oc, g.groups * g.micro_n), "float32", align=64)
            with T.serial(0, g.c_blocks) as block:
                c0 = block * g.tile_c
                length = g.tile_c if g.c % g.tile_c == 0 else T.min(g.tile_c, g.c - c0)
                self._copy(planes, image, row0, c0, length)
                groups, panels = T.serial(0, g.groups), T.serial(0, g.tile_oc)
                outer, inner = (groups, panels) if g.weights_inside else (panels, groups)
                with outer as first, inner as second:
                    group, i = (first, second) if g.weights_inside else (second, first)
                    with T.If(panel0 + i < g.panels), T.Then():
                        panel = self._of_group(image, g.panels) + panel0 + i
                        self._micro_tile(planes, sums, group, i, panel, block, c0, length)
            self._finish(sums, image, row0, panel0)

    def _of_group(self, image: Any, count: int) -> Any:
        """Where a group's share begins among ``count`` things of each group."""
        return image % self.g.group * count if self.g.group > 1 else 0

    def _copy(self, planes: Any, image: Any, row0: Any, c0: Any, length: Any) -> None:
        """Rows of the input that the band needs, zeros where the padding is."""
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
                        self._zeros(planes, start, 0, first)
                        column = first * stride + column_phase - g.left
                        self._copy_row(planes, start + first, (image, c0 + c, source), column, last - first)
                        self._zeros(planes, start, last, g.plane_columns)
                    with T.Else():
                        self._zeros(planes, start, 0, g.plane_columns)

    def _copy_row(self, planes: Any, start: Any, row: tuple[Any, ...], column: int, count: int) -> None:
        """``count`` elements of a row of x, a stride apart from ``column`` on.

        Every second element is picked of two vectors, which read one beyond; the last is therefore copied alone.
        """
        stride = self.g.stride[1]
        alone = int(stride == 2 and count > 0)
        for first, lanes, times in pieces(count - alone, self.g.lanes if stride <= 2 else 1):
            with T.serial(0, times) as i:
                place = (*row, column + (first + i * lanes) * stride)
                value = read(self.x, place, lanes) if stride == 1 or lanes == 1 else self._every_second(place, lanes)
                store(planes, start + first + i * lanes, value, lanes)
        if alone:
            store(planes, start + count - 1, self.x[(*row, column + (count - 1) * stride)], 1)

    def _every_second(self, place: tuple[Any, ...], lanes: int) -> Any:
        *outer, first = place
        halves = [read(self.x, (*outer, first + half * lanes), lanes) for half in range(2)]
        return T.Shuffle(halves, list(range(0, 2 * lanes, 2)))

    def _zeros(self, planes: Any, start: Any, first: int, last: int) -> None:
        for begin, lanes, times in pieces(last - first, self.g.lanes):
            with T.serial(0, times) as i:
                store(planes, start + first + begin + i * lanes, splat(T.float32(0), lanes), lanes)

    def _micro_tile(
        self, planes: Any, sums: Any, group: Any, i: Any, panel: Any, block: Any, c0: Any, length: Any
    ) -> None:
        g = self.g
        slots = list(enumerate(itertools.product(range(g.micro_oc), range(g.vectors))))
        acc = Registers(len(slots), "float32", g.lanes)

        def place(o: int, v: int) -> list[Any]:
            return [i, o, T.ramp(group * g.micro_n + v * g.lanes, 1, g.lanes)]

        if g.c_blocks > 1:
            with T.If(block > 0), T.Then():
                for slot, (o, v) in slots:
                    acc[slot] = sums[tuple(place(o, v))]

        def tap(c: Any, r: Any, s: Any) -> None:
            start = c * g.channel + self._shift(r, s) + group * g.micro_n
            for slot, (o, v) in slots:
                weight = T.broadcast(self.w[panel, c0 + c, r * g.kw + s, o], g.lanes)
                acc[slot] = acc[slot] + weight * planes[T.ramp(start + v * g.lanes, 1, g.lanes)]

        with T.serial(0, length) as c:
            if g.taps <= _UNROLLED_TAPS:
                for r in range(g.kh):
                    for s in range(g.kw):
                        tap(c, r, s)
            else:
                with T.serial(0, g.kh) as row:
                    if g.kw <= _UNROLLED_TAPS:
                        for s in range(g.kw):
                            tap(c, row, s)
                    else:
                        with T.serial(0, g.kw) as column:
                            tap(c, row, column)
        for slot, (o, v) in slots:
            T.buffer_store(sums, acc[slot], place(o, v))

    def _shift(self, r: Any, s: Any) -> Any:
        """Where the input of tap (r, s) for the first output element lies in a channel's planes."""
        g = self.g
        (down, across), row, column = g.stride, r * g.dilation[0], s * g.dilation[1]
        plane = row % down * g.column_phases + column % across
        return (plane * g.plane_rows + row // down) * g.plane_columns + column // across

    def _finish(self, sums: Any, image: Any, row0: Any, panel0: Any) -> None:
        g = self.g
        whole, rest = divmod(g.columns, g.lanes)
        with T.serial(0, g.tile_oc) as i, T.serial(0, g.micro_oc) as o:
            channel = (panel0 + i) * g.micro_oc + o
            with T.If(channel < g.oc), T.Then(), T.serial(0, g.tile_h) as r, T.If(row0 + r < g.rows), T.Then():
                start, place = r * g.plane_columns, (image, channel, row0 + r)
                if whole:
                    with T.serial(0, whole) as v:
                        column = v * g.lanes
                        self._finish_vector(sums[i, o, T.ramp(start + column, 1, g.lanes)], (*place, column), None)
                if rest:
                    column = whole * g.lanes
                    product = sums[i, o, T.ramp(start + column, 1, g.lanes)]
                    self._finish_vector(product, (*place, column), self.vectors.first(rest))

    def _finish_vector(self, product: Any, place: tuple[Any, ...], mask: Any) -> None:
        """The epilogue of neighbouring elements, those of the mask if there is one, and their place in y."""
        value = product
        if self.g.epilogue is not None:
            image, channel, *_ = place
            operands = [
                self.vectors.let(product),
                *(self.vectors.spread(b[self._of_group(image, self.g.oc) + channel]) for b in self.rows),
                *(self.vectors.load(full, place, mask) for full in self.full),
            ]
            value = evaluate(self.vectors, self.g.epilogue.expression, operands)
        self.vectors.store(self.y, place, value, mask)
