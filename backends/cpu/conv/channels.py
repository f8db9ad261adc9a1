"""Output channels in the lanes of a vector, as TensorIR::

    for task (image, group of channels × band of rows × tile of output channels)     split over threads
      copy the band's input into padded planes, or read x where it lies
      for panel of output channels, for register tile of the band's outputs   or the other way round: ``inner``
        for c, for tap: acc[p, :] += W[c, tap, :] · plane[c][position(p) + shift(tap)]
        acc to the task's sums [output of the band, channel of the panel]
      squares of sums, transposed and finished by the epilogue, to y[channel, output …]

An element of the input is spread over all lanes as it is read, so outputs of a register tile need not be neighbours in
memory: it is a part of a row, or a few whole rows, with nothing computed between them. Where a row, a band or an image
is no whole number of them, the last one ends with it: it computes a second time what its neighbour does too, and writes
the same values.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from tvm.tirx.script.builder import ir as T

from fettle.backends.cpu.conv.channel_geometry import ChannelGeometry
from fettle.backends.cpu.conv.finish import Finish
from fettle.backends.cpu.conv.loops import each_row, of_group, panels, tasks
from fettle.backends.cpu.conv.planes import Planes
from fettle.backends.cpu.gemv.words import Registers, transposed

Read = Callable[[Any, Any, Any], Any]
"""(channel, row of the filter, place beyond it) -> element of the input."""


def multiply(g: ChannelGeometry, x: Any, w: Any, finish: Finish) -> None:
    """All loops: ``x`` is [n, c, h, w], or [n, c, positions] if read in place, y of ``finish`` [n, oc, positions],
    ``w`` [panels, c, taps, micro_oc]."""
    with tasks(g) as (image, band, panel0):
        row0 = T.Bind(T.min(band * g.tile_h, g.rows - g.tile_h))
        read = _in_place(x, image, row0 * g.columns) if g.in_place else _copied(g, x, image, row0)
        sums = T.alloc_buffer((g.held, g.padded_run, g.micro_oc), "float32", align=64)

        def compute(i: Any, held: Any, group: Any) -> None:
            _micro_tile(g, read, w, of_group(g, image, g.panels) + panel0 + i, sums, held, group)

        def write(i: Any, held: Any) -> None:
            _finish(g, sums, held, finish, image, (panel0 + i) * g.micro_oc, row0 * g.columns)

        if g.weights_inside:
            with T.serial(0, g.groups) as group, panels(g, panel0) as i:
                compute(i, i, group)
            with panels(g, panel0) as i:
                write(i, i)
        else:
            with panels(g, panel0) as i:
                with T.serial(0, g.groups) as group:
                    compute(i, 0, group)
                write(i, 0)


def _in_place(x: Any, image: Any, first: Any) -> Read:
    """x of the only tap where it lies, for a band whose outputs begin at position ``first``."""
    return lambda c, _, place: x[image, c, first + place]


def _copied(g: ChannelGeometry, x: Any, image: Any, row0: Any) -> Read:
    """Copy the band from output row ``row0`` on."""
    planes = Planes(g, x)
    planes.copy(image, row0, 0, g.c)
    return lambda c, r, place: planes.buffer[c * g.channel + g.row_shift(r) + place]


def _micro_tile(g: ChannelGeometry, read: Read, w: Any, panel: Any, sums: Any, held: Any, group: Any) -> None:
    """Sums of a register tile over all channels and taps.

    Taps of a row that meet the same element of the input follow one another, so that it is spread once: LLVM would keep
    elements that it meets again in registers, more than there are.
    """
    row = T.Bind(T.min(group // g.groups_across * g.tile_rows, g.down - g.tile_rows))
    column = T.Bind(T.min(group % g.groups_across * g.tile_columns, g.across - g.tile_columns))
    outputs = [divmod(p, g.tile_columns) for p in range(g.micro_n)]
    acc = Registers(g.micro_n * g.vectors, "float32", g.lanes)
    with T.serial(0, g.c) as c:

        def taps(r: Any, columns: Sequence[Any]) -> None:
            places = [
                (g.column_shift(s) + g.distance(*output), p, s) for p, output in enumerate(outputs) for s in columns
            ]
            for place, p, s in sorted(places) if len(columns) > 1 else places:
                element = T.broadcast(read(c, r, row * g.plane_columns + column + place), g.lanes)
                for v in range(g.vectors):
                    weights = w[panel, c, r * g.kw + s, T.ramp(v * g.lanes, 1, g.lanes)]
                    acc[p * g.vectors + v] = acc[p * g.vectors + v] + weights * element

        each_row(g, taps)
    for (p, (down, across)), v in itertools.product(enumerate(outputs), range(g.vectors)):
        output = (row + down) * g.columns + column + across
        T.buffer_store(sums, acc[p * g.vectors + v], [held, output, T.ramp(v * g.lanes, 1, g.lanes)])


def _finish(
    g: ChannelGeometry, sums: Any, held: Any, finish: Finish, image: Any, channel0: Any, position0: Any
) -> None:
    """A panel's sums to y, a square of as many outputs as channels at a time."""

    def square(first: Any, output: Any, mask: Any) -> None:
        rows = [sums[held, output + k, T.ramp(first, 1, g.lanes)] for k in range(g.lanes)]
        for k, product in enumerate(transposed(rows, finish.vectors.let)):
            channel = channel0 + first + k
            with T.If(channel < g.oc), T.Then():
                finish.store(product, (image, channel, position0 + output), mask)

    whole, rest = divmod(g.run, g.lanes)
    with T.serial(0, g.vectors) as v, T.If(channel0 + v * g.lanes < g.oc), T.Then():
        if whole:
            with T.serial(0, whole) as block:
                square(v * g.lanes, block * g.lanes, None)
        if rest:
            square(v * g.lanes, whole * g.lanes, finish.vectors.first(rest))
