"""The direct convolution as TensorIR: its arguments, and which loops compute it.

Weights are read from ``W[panel, c, tap, micro_oc]``, the panels of one group after another. The lanes of a vector are
neighbouring outputs of a row (``pixels.py``, or ``pointwise.py`` where nothing is copied), or output channels
(``channels.py``).
"""

from __future__ import annotations

from typing import Any

from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as T

from fettle.backends.api import Device
from fettle.backends.cpu.conv import channels, pixels, pointwise
from fettle.backends.cpu.conv.channel_geometry import ChannelGeometry
from fettle.backends.cpu.conv.finish import Finish
from fettle.backends.cpu.conv.geometry import Geometry
from fettle.backends.cpu.gemv.words import argument
from fettle.backends.cpu.rows.arrays import viewed
from fettle.backends.cpu.rows.vectors import Vectors


def emit(g: Geometry, device: Device) -> Any:
    """The ``PrimFunc`` of a geometry; parameters (x, full operands, W, rows, y)."""
    images, outputs = g.n // g.group, g.group * g.oc
    result = (images, outputs, g.rows, g.columns)
    by_group = (
        g.n,
        g.oc,
        *((g.rows * g.columns,) if g.in_place or isinstance(g, ChannelGeometry) else (g.rows, g.columns)),
    )
    count = (g.epilogue.rows, g.epilogue.operands) if g.epilogue else (0, 0)
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("conv2d")
        T.func_attr({"tirx.noalias": True})
        x = argument("x", (images, g.group * g.c, g.h, g.w), "float32")
        full = [argument(f"x{i}", result, "float32") for i in range(count[1])]
        w = argument("w", (g.group * g.panels, g.c, g.taps, g.micro_oc), "float32")
        rows = [argument(f"b{i}", (outputs,), "float32") for i in range(count[0])]
        y = argument("y", result, "float32")
        x = viewed(x, (g.n, g.c, g.h * g.w) if g.in_place else (g.n, g.c, g.h, g.w), "f32")
        y, *full = (viewed(buffer, by_group, "f32") for buffer in (y, *full))
        finish = Finish(g, Vectors(device), y, rows, full)
        if isinstance(g, ChannelGeometry):
            channels.multiply(g, x, w, finish)
        elif g.in_place:
            pointwise.multiply(g, x, w, finish)
        else:
            pixels.multiply(g, x, w, finish)
    return builder.get()
