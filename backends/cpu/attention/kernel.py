"""The TensorIR function of a plan: arguments, and the algorithm that fills it."""

from __future__ import annotations

import math
from typing import Any

from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as T

from fettle.backends.api import Device
from fettle.backends.cpu.attention.plan import Plan
from fettle.backends.cpu.attention.split import Split
from fettle.backends.cpu.attention.tiles import Tiles

_DTYPE = {"f32": "float32", "bf16": "bfloat16"}
_BYTES = {"f32": 4, "bf16": 2}


def kernel(plan: Plan, device: Device) -> Any:
    """``(q, k, v, y)``, arrays of any alignment."""
    queries = (plan.batch, plan.heads, plan.q, plan.dim)
    cache = (plan.batch, plan.kv_heads, plan.kv, plan.dim)
    tensors = (("q", queries, plan.act), ("k", cache, plan.cache), ("v", cache, plan.cache), ("y", queries, plan.act))
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("attention")
        arguments = [
            T.arg(name, T.buffer([T.int64(extent) for extent in shape], _DTYPE[kind], align=_BYTES[kind]))
            for name, shape, kind in tensors
        ]
        T.func_attr({"tirx.noalias": True})
        matrices = [
            T.decl_buffer(
                [T.int64(math.prod(shape[:-1])), T.int64(plan.dim)],
                _DTYPE[kind],
                data=argument.data,
                align=_BYTES[kind],
            )
            for argument, (_, shape, kind) in zip(arguments, tensors, strict=True)
        ]
        (Split if plan.algorithm == "split" else Tiles)(plan, device, *matrices).emit()
    return builder.get()
