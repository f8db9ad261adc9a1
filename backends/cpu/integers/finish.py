"""What becomes of a vector of sums: the epilogue in float32, and the result's format."""

from __future__ import annotations

from collections.abc import Sequence

from fettle.backends.cpu.gemv.words import Expr, T
from fettle.backends.cpu.rows.codes import DTYPES as CODES
from fettle.backends.cpu.rows.codes import codes
from fettle.backends.cpu.rows.elementwise import evaluate
from fettle.backends.cpu.rows.vectors import Vectors
from fettle.graph.epilogues import Epilogue

DTYPES = {"i32": "int32", "f32": "float32", **CODES}
"""Of formats of x and of results."""


def finish(vectors: Vectors, sums: Expr, epilogue: Epilogue | None, rows: Sequence[Expr], out: str) -> Expr:
    """A vector of int32 sums as elements of the result.

    Args:
        rows: of the epilogue, vectors.
    """
    if epilogue is None:
        return sums
    number = vectors.let(T.Cast(vectors.dtype, sums))
    value = evaluate(vectors, epilogue.expression, [number, *rows])
    return value if out == "f32" else codes(value, vectors.lanes, DTYPES[out], vectors.is_x86)
