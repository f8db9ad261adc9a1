"""Stores past the caches, for results that no cache holds until they are read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tvm.tirx.script.builder import ir as T

from fettle.backends.cpu.rows.vectors import Vectors

_CACHE_LINE = 64

_INSTRUCTIONS = """
define void @fettle_stream(ptr %address, <{lanes} x float> %value) alwaysinline {{
  store <{lanes} x float> %value, ptr %address, align {bytes}, !nontemporal !0
  ret void
}}
define i32 @fettle_line_offset(ptr %address) alwaysinline {{
  %number = ptrtoint ptr %address to i64
  %offset = and i64 %number, 63
  %result = trunc i64 %offset to i32
  ret i32 %result
}}
define void @fettle_stream_end() alwaysinline {{
  fence seq_cst
  ret void
}}
!0 = !{{i32 1}}
"""
"""TensorIR has no non-temporal store, but takes LLVM IR along. The fence orders such stores before the end of a
task: other threads must see them once the kernel has returned."""


def stream(buffer: Any, offset: Any, value: Any) -> None:
    """A vector past the caches, to an address that is a multiple of its size; ``offset`` in elements; f32 only.

    LLVM joins rounding to 16 bits and a store to one instruction, which goes through the caches.
    """
    T.evaluate(T.call_extern("void", "fettle_stream", buffer.access_ptr("w", offset=offset), value))


@contextmanager
def streaming(v: Vectors, result: Any, streams: bool) -> Iterator[None]:
    """Around all statements of a kernel; in it :func:`stream` works if ``streams``."""
    if not streams:
        yield
        return
    with T.attr(0, "pragma_import_llvm", _INSTRUCTIONS.format(lanes=v.lanes, bytes=4 * v.lanes)):
        aligned = T.bitwise_and(_line_offset(result, 0), 3) == 0
        with T.Assert(aligned, ["the result is not aligned to its elements"]):
            pass
        yield


def end_streaming() -> None:
    """Every streamed store of this task becomes visible before anything that follows."""
    T.evaluate(T.call_extern("void", "fettle_stream_end"))


def until_aligned(v: Vectors, buffer: Any, offset: Any, count: Any) -> Any:
    """How many of ``count`` elements from ``offset`` come before an address that is a multiple of a vector."""
    line = _line_offset(buffer, offset)
    gap = T.shift_right(T.bitwise_and(_CACHE_LINE - line, 4 * v.lanes - 1), 2)
    return v.let(T.min(T.cast(gap, "int64"), T.int64(count)))


def _line_offset(buffer: Any, offset: Any) -> Any:
    return T.call_extern("int32", "fettle_line_offset", buffer.access_ptr("r", offset=offset))
