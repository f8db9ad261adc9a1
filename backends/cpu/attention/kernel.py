"""The TensorIR function of a plan: arguments, and the algorithm that fills it."""

from __future__ import annotations

import math
from typing import Any

from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as T

from fettle.backends.api import Device
from fettle.backends.cpu.attention.cache import Cache
from fettle.backends.cpu.attention.integers import Integers
from fettle.backends.cpu.attention.plan import Plan
from fettle.backends.cpu.attention.split import Split
from fettle.backends.cpu.attention.tiles import Tiles
from fettle.backends.cpu.attention.weighing import Mask
from fettle.backends.cpu.attention.words import Words

_DTYPES = {"f32": ("float32", 4), "bf16": ("bfloat16", 2), "u8": ("uint8", 1), "u4": ("uint8", 1)}
"""Type of a stored element, and its bytes."""


def kernel(plan: Plan, device: Device) -> Any:
    """``(q, k, v, y)``, or ``(q, k, k_scale, k_zero, v, v_scale, v_zero, y)``; arrays of any alignment.

    A mask comes before y.
    """
    queries, heads = (plan.batch, plan.heads, plan.q, plan.dim), (plan.batch, plan.kv_heads)
    rows = ((*heads, plan.kv, plan.cache_columns), plan.cache)
    per_channel, per_key = ((*heads, plan.cache_groups, plan.dim), "f32"), ((*heads, plan.kv, 1), "f32")
    tensors: list[tuple[tuple[int, ...], str]] = [(queries, plan.act), rows, rows, (queries, plan.act)]
    if plan.is_quantised:
        tensors[2:2] = [per_channel, per_channel]
        tensors[-1:-1] = [per_key, per_key]
    if plan.mask is not None:
        tensors.insert(-1, (plan.mask, "f32"))
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("attention")
        arguments = [
            T.arg(f"x{i}", T.buffer([T.int64(extent) for extent in shape], _DTYPES[kind][0], align=_DTYPES[kind][1]))
            for i, (shape, kind) in enumerate(tensors)
        ]
        T.func_attr({"tirx.noalias": True})
        q, *cache, y = [
            T.decl_buffer(
                [T.int64(math.prod(shape[:-1])), T.int64(shape[-1])],
                _DTYPES[kind][0],
                data=argument.data,
                align=_DTYPES[kind][1],
            )
            for argument, (shape, kind) in zip(arguments, tensors, strict=True)
        ]
        words = Words(plan, device)
        mask = None if plan.mask is None else Mask(plan, words, cache.pop())
        half = len(cache) // 2
        k, v = Cache(plan, words, *cache[:half]), Cache(plan, words, *cache[half:])
        if plan.algorithm == "tiles":
            Tiles(plan, words, q, k, v, mask, y).emit()
        else:
            (Integers if plan.i8 else Split)(plan, words, q, k, v, mask, y).emit()
    return builder.get()
