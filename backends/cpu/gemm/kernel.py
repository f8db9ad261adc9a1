"""The kernel: activations prepared by all threads, then panels of W shared among them."""

from __future__ import annotations

from typing import Any

from tvm.script.ir_builder import IRBuilder

from fettle.backends.cpu.gemm.activations import Activations, Copied, Given, Quantised
from fettle.backends.cpu.gemm.amx import AmxTiles
from fettle.backends.cpu.gemm.floating import FloatTiles
from fettle.backends.cpu.gemm.integer import IntegerTiles
from fettle.backends.cpu.gemm.plan import GemmPlan
from fettle.backends.cpu.gemm.tiles import Arguments, Tiles
from fettle.backends.cpu.gemv.formats import Floats
from fettle.backends.cpu.gemv.words import T, argument, parallel


def kernel(plan: GemmPlan) -> Any:
    """The TensorIR function ``(x, codes, scales[, zero points], y)`` of a plan."""
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("gemm")
        T.func_attr({"tirx.noalias": True})
        _emit(plan, _arguments(plan))
    return builder.get()


def _arguments(plan: GemmPlan) -> Arguments:
    packed = plan.packed
    per_group = (packed.padded_n * packed.groups,)
    return Arguments(
        x=argument("x", packed.x_shape, "int32" if packed.prepared else Floats(plan.act).dtype),
        weights=argument("codes", (packed.weight_bytes,), "uint8"),
        scales=argument("scales", per_group, Floats(packed.format.scale).dtype),
        zero_points=argument("zero_points", per_group, "uint8") if packed.format.zero_points else None,
        y=argument("y", (plan.m, packed.n), Floats(plan.out).dtype),
    )


def _emit(plan: GemmPlan, arguments: Arguments) -> None:
    if plan.is_float:
        activations: Activations = Copied(plan)
    else:
        activations = Given(plan) if plan.packed.prepared else Quantised(plan)
    activations.prepare(arguments.x)
    units, across, down = plan.packed.tiles * plan.panels, plan.column_threads, plan.row_threads
    with parallel(plan.threads) as thread:
        tiles: Tiles
        if isinstance(activations, Quantised):
            tiles = (AmxTiles if plan.is_amx else IntegerTiles)(plan, arguments, activations)
        else:
            tiles = FloatTiles(plan, arguments, activations)
        column = thread // down
        tiles.emit(units * column // across, units * (column + 1) // across, thread % down)
