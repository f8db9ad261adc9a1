"""The arrays a kernel gets: the function over them, and how their elements look to TensorIR."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as T

from fettle.backends.cpu.rows.codes import DTYPES

ELEMENT_BYTES = {"f32": 4, "bf16": 2, "f16": 2, "u8": 1, "i8": 1}
_ARGUMENT = {"f32": "float32", "bf16": "bfloat16", "f16": "float16", **DTYPES}


def element_dtype(act: str) -> str:
    """What an element is to a kernel's statements; uint16 for all of 16 bits: TensorIR rewrites arithmetic on bf16."""
    return "uint16" if ELEMENT_BYTES[act] == 2 else _ARGUMENT[act]


def function(
    shapes: Sequence[tuple[str, tuple[int, ...]]], body: Callable[..., None], act: str = "f32", out: str = ""
) -> Any:
    """A ``tirx.PrimFunc`` over arrays of a format and any alignment; ``body`` emits its statements.

    The last array, the result, may be of another format.

    Buffers of bf16 and f16 come as uint16.
    """
    formats = [act] * (len(shapes) - 1) + [out or act]
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("main")
        buffers = [
            T.arg(name, T.buffer([T.int64(extent) for extent in shape], _ARGUMENT[kind], align=ELEMENT_BYTES[kind]))
            for (name, shape), kind in zip(shapes, formats, strict=True)
        ]
        T.func_attr({"tirx.noalias": True})
        if "uint16" in map(element_dtype, formats):
            buffers = [viewed(b, s, kind) for b, (_, s), kind in zip(buffers, shapes, formats, strict=True)]
        body(*buffers)
    return builder.get()


def viewed(buffer: Any, shape: Sequence[int], act: str) -> Any:
    """The same memory in another shape."""
    extents = [T.int64(extent) for extent in shape]
    return T.decl_buffer(extents, element_dtype(act), data=buffer.data, align=ELEMENT_BYTES[act])
