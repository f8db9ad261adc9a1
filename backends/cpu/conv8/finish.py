"""What becomes of a vector of sums: the epilogue in float32, and the result's format."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fettle.backends.cpu.gemv.words import Expr, T, constant, intrinsic
from fettle.backends.cpu.rows.elementwise import evaluate
from fettle.backends.cpu.rows.vectors import Vectors
from fettle.graph.epilogues import Epilogue

DTYPES = {"i32": "int32", "f32": "float32", "u8": "uint8", "i8": "int8"}

_NEAREST = {
    16: "llvm.x86.avx512.mask.cvtps2dq.512",
    8: "llvm.x86.avx.cvt.ps2dq.256",
    4: "llvm.x86.sse2.cvtps2dq",
}


def finish(vectors: Vectors, sums: Expr, epilogue: Epilogue | None, rows: Sequence[Expr], out: str) -> Expr:
    """A vector of int32 sums as elements of the result.

    Args:
        rows: of the epilogue, one number each.
    """
    if epilogue is None:
        return sums
    number = vectors.let(T.Cast(vectors.dtype, sums))
    value = evaluate(vectors, epilogue.expression, [number, *map(vectors.spread, rows)])
    return value if out == "f32" else codes(vectors, value, DTYPES[out])


def codes(vectors: Vectors, value: Expr, dtype: str) -> Expr:
    """Floats as integers of 8 bits: the nearest, halves to even, between the type's bounds."""
    limits, lanes = np.iinfo(dtype), vectors.lanes
    low, high = vectors.constant(float(limits.min)), vectors.constant(float(limits.max))
    value = vectors.let(vectors.where(low > value, low, value))
    value = vectors.let(vectors.where(value > high, high, value))
    if vectors.is_x86:
        return T.Cast(f"{dtype}x{lanes}", _nearest(value, lanes))
    return T.Cast(f"{dtype}x{lanes}", T.Cast(f"int32x{lanes}", vectors.rounded(value)))


def _nearest(value: Expr, lanes: int) -> Expr:
    """By the rounding mode that all float arithmetic has."""
    words = f"int32x{lanes}"
    if lanes == 16:
        return intrinsic(words, _NEAREST[lanes], value, constant(0, "int32", lanes), T.int16(-1), T.int32(4))
    return intrinsic(words, _NEAREST[lanes], value)
