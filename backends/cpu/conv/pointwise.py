"""Filters of one tap, not moved and not padded, as a product that reads x where it lies, as TensorIR::

    for task (image, group of channels × band of rows × tile of output channels)     split over threads
      for register tile of the band's positions, for panel of output channels        or the other way round: ``inner``
        for c: acc[o, :] += W[c, o] · x[c, position …]
        y[o, position …] = epilogue(acc[o, :])

Positions count over all rows of an image. The last register tile ends where the image does: it computes a second time
what its neighbour does too, and writes the same values.
"""

from __future__ import annotations

import itertools
from typing import Any

from tvm.tirx.script.builder import ir as T

from fettle.backends.cpu.conv.geometry import Geometry
from fettle.backends.cpu.gemv.words import Registers
from fettle.backends.cpu.rows.elementwise import evaluate
from fettle.backends.cpu.rows.vectors import Vectors


def multiply(g: Geometry, vectors: Vectors, x: Any, w: Any, y: Any, rows: list[Any], full: list[Any]) -> None:
    """All loops: ``x`` is [n, c, positions], ``y`` and ``full`` [n, oc, positions], ``w`` [panels, c, 1, micro_oc]."""
    parallel = T.parallel if g.threads > 1 and g.tasks > 1 else T.serial
    with parallel(0, g.tasks) as task:
        image, rest = task // (g.bands * g.oc_tiles), task % (g.bands * g.oc_tiles)
        begin, panel0 = rest // g.oc_tiles * g.tile_h * g.columns, rest % g.oc_tiles * g.tile_oc
        groups, panels = T.serial(0, g.groups), T.serial(0, g.tile_oc)
        outer, inner = (groups, panels) if g.weights_inside else (panels, groups)
        with outer as first, inner as second:
            group, i = (first, second) if g.weights_inside else (second, first)
            position = T.min(begin + group * g.micro_n, g.rows * g.columns - g.micro_n)
            with T.If(panel0 + i < g.panels), T.Then():
                _micro_tile(g, vectors, (x, w, y, rows, full), image, panel0 + i, T.Bind(position))


def _micro_tile(g: Geometry, vectors: Vectors, buffers: tuple[Any, ...], image: Any, panel: Any, position: Any) -> None:
    x, w, y, rows, full = buffers
    group = image % g.group if g.group > 1 else 0
    acc = Registers(g.micro_oc * g.vectors, "float32", g.lanes)
    slots = list(enumerate(itertools.product(range(g.micro_oc), range(g.vectors))))
    with T.serial(0, g.c) as c:
        for slot, (o, v) in slots:
            weight = T.broadcast(w[group * g.panels + panel, c, 0, o], g.lanes)
            acc[slot] = acc[slot] + weight * x[image, c, T.ramp(position + v * g.lanes, 1, g.lanes)]
    for slot, (o, v) in slots:
        channel = panel * g.micro_oc + o
        with T.If(channel < g.oc), T.Then():
            place = (image, channel, T.ramp(position + v * g.lanes, 1, g.lanes))
            value = vectors.let(acc[slot])
            if g.epilogue is not None:
                operands = [value, *(vectors.spread(b[group * g.oc + channel]) for b in rows)]
                operands += [vectors.let(buffer[place]) for buffer in full]
                value = evaluate(vectors, g.epilogue.expression, operands)
            T.buffer_store(y, value, list(place))
