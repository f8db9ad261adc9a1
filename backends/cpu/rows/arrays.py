"""The arrays a kernel gets: the function over them, and how their elements look to TensorIR."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as T

ELEMENT_BYTES = {"f32": 4, "bf16": 2, "f16": 2}
_ARGUMENT = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}


def element_dtype(act: str) -> str:
    """What an element is to a kernel's statements; uint16 for all of 16 bits: TensorIR rewrites arithmetic on bf16."""
    return "float32" if ELEMENT_BYTES[act] == 4 else "uint16"


def function(shapes: Sequence[tuple[str, tuple[int, ...]]], body: Callable[..., None], act: str = "f32") -> Any:
    """A ``tirx.PrimFunc`` over arrays of a format and any alignment; ``body`` emits its statements.

    Buffers of bf16 and f16 come as uint16.
    """
    size = ELEMENT_BYTES[act]
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("main")
        buffers = [
            T.arg(name, T.buffer([T.int64(extent) for extent in shape], _ARGUMENT[act], align=size))
            for name, shape in shapes
        ]
        T.func_attr({"tirx.noalias": True})
        if size == 2:
            buffers = [viewed(buffer, shape, act) for buffer, (_, shape) in zip(buffers, shapes, strict=True)]
        body(*buffers)
    return builder.get()


def viewed(buffer: Any, shape: Sequence[int], act: str) -> Any:
    """The same memory in another shape."""
    extents = [T.int64(extent) for extent in shape]
    return T.decl_buffer(extents, element_dtype(act), data=buffer.data, align=ELEMENT_BYTES[act])
