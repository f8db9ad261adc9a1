"""Neighbouring outputs of a row in the lanes of a vector, over padded copies of the input, as TensorIR::

for task (image, group of channels × band of rows × tile of output channels)     split over threads
  for block of tile_c channels
    copy the band's input into padded planes
    for register tile along the run, for panel of output channels   or the other way round: ``inner``
      acc[micro_oc, vectors] from the task's sums after the first block
      for c, for tap: acc[o, :] += W[c, tap, o] · plane[c][position + shift(tap) …]
      acc to the task's sums
  sums, finished by the epilogue, to the elements of y that exist
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from tvm.tirx.script.builder import ir as T

from fettle.backends.cpu.conv.finish import Finish
from fettle.backends.cpu.conv.geometry import Geometry
from fettle.backends.cpu.conv.loops import each_row, of_group, register_tiles, tasks
from fettle.backends.cpu.conv.planes import Planes
from fettle.backends.cpu.gemv.words import Registers


def multiply(g: Geometry, x: Any, w: Any, finish: Finish) -> None:
    """All loops: ``x`` is [n, c, h, w], y of ``finish`` [n, oc, rows, columns], ``w`` [panels, c, taps, micro_oc]."""
    with tasks(g) as (image, band, panel0):
        row0 = band * g.tile_h
        planes = Planes(g, x)
        sums = T.alloc_buffer((g.tile_oc, g.micro_oc, g.groups * g.micro_n), "float32", align=64)
        with T.serial(0, g.c_blocks) as block:
            c0 = block * g.tile_c
            length = g.tile_c if g.c % g.tile_c == 0 else T.min(g.tile_c, g.c - c0)
            planes.copy(image, row0, c0, length)
            with register_tiles(g, panel0) as (group, i):
                panel = of_group(g, image, g.panels) + panel0 + i
                _micro_tile(g, planes, w, sums, group, i, panel, block, c0, length)
        _finish(g, sums, finish, image, row0, panel0)


def _micro_tile(
    g: Geometry, planes: Planes, w: Any, sums: Any, group: Any, i: Any, panel: Any, block: Any, c0: Any, length: Any
) -> None:
    slots = list(enumerate(itertools.product(range(g.micro_oc), range(g.vectors))))
    acc = Registers(len(slots), "float32", g.lanes)

    def place(o: int, v: int) -> list[Any]:
        return [i, o, T.ramp(group * g.micro_n + v * g.lanes, 1, g.lanes)]

    if g.c_blocks > 1:
        with T.If(block > 0), T.Then():
            for slot, (o, v) in slots:
                acc[slot] = sums[tuple(place(o, v))]

    with T.serial(0, length) as c:

        def taps(r: Any, columns: Sequence[Any]) -> None:
            for s, (slot, (o, v)) in itertools.product(columns, slots):
                start = c * g.channel + g.row_shift(r) + g.column_shift(s) + group * g.micro_n
                weight = T.broadcast(w[panel, c0 + c, r * g.kw + s, o], g.lanes)
                acc[slot] = acc[slot] + weight * planes.buffer[T.ramp(start + v * g.lanes, 1, g.lanes)]

        each_row(g, taps)
    for slot, (o, v) in slots:
        T.buffer_store(sums, acc[slot], place(o, v))


def _finish(g: Geometry, sums: Any, finish: Finish, image: Any, row0: Any, panel0: Any) -> None:
    whole, rest = divmod(g.columns, g.lanes)
    with T.serial(0, g.tile_oc) as i, T.serial(0, g.micro_oc) as o:
        channel = (panel0 + i) * g.micro_oc + o
        with T.If(channel < g.oc), T.Then(), T.serial(0, g.tile_h) as r, T.If(row0 + r < g.rows), T.Then():
            start, place = r * g.plane_columns, (image, channel, row0 + r)
            if whole:
                with T.serial(0, whole) as v:
                    column = v * g.lanes
                    finish.store(sums[i, o, T.ramp(start + column, 1, g.lanes)], (*place, column))
            if rest:
                column = whole * g.lanes
                product = sums[i, o, T.ramp(start + column, 1, g.lanes)]
                finish.store(product, (*place, column), finish.vectors.first(rest))
