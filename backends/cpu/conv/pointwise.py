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

from fettle.backends.cpu.conv.finish import Finish
from fettle.backends.cpu.conv.geometry import Geometry
from fettle.backends.cpu.conv.loops import of_group, register_tiles, tasks
from fettle.backends.cpu.gemv.words import Registers


def multiply(g: Geometry, x: Any, w: Any, finish: Finish) -> None:
    """All loops: ``x`` is [n, c, positions], y of ``finish`` [n, oc, positions], ``w`` [panels, c, 1, micro_oc]."""
    with tasks(g) as (image, band, panel0), register_tiles(g, panel0) as (group, i):
        position = T.Bind(T.min(band * g.tile_h * g.columns + group * g.micro_n, g.rows * g.columns - g.micro_n))
        panel = panel0 + i
        acc = Registers(g.micro_oc * g.vectors, "float32", g.lanes)
        slots = list(enumerate(itertools.product(range(g.micro_oc), range(g.vectors))))
        with T.serial(0, g.c) as c:
            for slot, (o, v) in slots:
                weight = T.broadcast(w[of_group(g, image, g.panels) + panel, c, 0, o], g.lanes)
                acc[slot] = acc[slot] + weight * x[image, c, T.ramp(position + v * g.lanes, 1, g.lanes)]
        for slot, (o, v) in slots:
            channel = panel * g.micro_oc + o
            with T.If(channel < g.oc), T.Then():
                finish.store(acc[slot], (image, channel, position + v * g.lanes))
