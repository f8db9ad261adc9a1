"""Products of 8-bit codes: what ``conv2d`` and ``matmul`` have in common where x and the weight are integers.

``y = Σ (x - zero) · W`` is exact, in whole numbers of 32 bits. ``zero`` is the zero point of x: with ``zero=true`` an
operand of one number, else 0. An ``epilogue`` then computes in float32, from rows ``b0 …`` alone, and ``out`` says how
its result is stored: as it is (``f32``), or rounded to the nearest whole number, halves to the even one, and kept
between the bounds of ``u8`` or ``i8``. Without an epilogue, ``out=i32`` are the sums.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fettle.graph.epilogues import Epilogue
from fettle.graph.errors import InvalidWorkload
from fettle.graph.formats import Format
from fettle.graph.operators.base import UNIT_ROUNDOFF, Reference, storing_codes
from fettle.graph.tensors import TensorSpec

CODES = ("u8", "i8")
"""Formats of codes."""

MAX_TERMS = (2**31 - 1) // (255 * 128)
"""Products of 8-bit codes that surely fit an accumulator of 32 bits."""


def default_out(values: Mapping[str, Any]) -> Format:
    """Sums where there is no epilogue; else its numbers."""
    codes = values["act"].kind in CODES
    return Format("i32") if codes and values["epilogue"] is None else Format("f32")


def check_codes(name: str, values: Mapping[str, Any], terms: int) -> None:
    """Reject what is neither a product of floats nor one of codes.

    Args:
        name: of the operator, for messages.
        terms: products that are summed to one element.
    """
    act, weight, out = (values[field].kind for field in ("act", "weight", "out"))
    if act not in CODES:
        if weight == "i8" or values["zero"] or out != act:
            raise InvalidWorkload(
                f"{name}: weight=i8, zero= and out= are for products of codes", hint="write act=u8 or act=i8"
            )
        return
    if weight != "i8":
        raise InvalidWorkload(f"{name}: codes are multiplied by codes", hint="write weight=i8")
    check_finish(name, values, terms)


def check_finish(name: str, values: Mapping[str, Any], terms: int) -> None:
    """Reject what sums of products of codes cannot become; see :func:`check_codes`."""
    out, epilogue = values["out"].kind, values["epilogue"]
    if out not in ("i32", "f32", *CODES) or (out == "i32") != (epilogue is None):
        raise InvalidWorkload(
            f"{name}: out=i32 are sums of products, other results those of an epilogue",
            hint="leave out= and epilogue= away, or write, say, out=u8 epilogue=y*b0+b1",
        )
    if epilogue is not None and epilogue.operands:
        raise InvalidWorkload(f"{name}: the epilogue of a product of codes reads rows only", hint="x0 … are not for it")
    if terms > MAX_TERMS:
        raise InvalidWorkload(f"{name}: sums of {terms} products of codes overflow 32 bits (at most {MAX_TERMS})")


def zero_operand(values: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    """The zero point of x, if it is an operand."""
    return (TensorSpec("zero", (1,), values["act"]),) if values["zero"] else ()


def random_codes(tensor: TensorSpec, terms: int, rng: np.random.Generator) -> np.ndarray:
    """Codes of any value, and rows that bring sums of ``terms`` of them to a deviation of about 64."""
    dtype = tensor.format.dtype
    if dtype.kind in "iu":
        return rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, tensor.shape, dtype, endpoint=True)
    scale = np.float32(64.0 / (74.0 * 104.0 * np.sqrt(terms)))  # deviations of bytes about a zero point, of weights
    return scale * (0.5 + rng.random(tensor.shape, np.float32))


def finished(values: Mapping[str, Any], sums: NDArray[np.float64], rows: Sequence[NDArray[np.float64]]) -> Reference:
    """What becomes of exact sums.

    Sums are exact, and one half tells them from their neighbours. An epilogue has the error that its expression has in
    float32; of codes that leaves the right one, and its neighbour where the number lies that near to a half.

    Args:
        rows: of a shape that broadcasts to the sums'.
    """
    epilogue: Epilogue | None = values["epilogue"]
    if epilogue is None:
        return Reference(sums, np.full(sums.shape, 0.5))
    rounded = np.where(np.abs(sums) < 2.0**24, 0.0, UNIT_ROUNDOFF * np.abs(sums))
    expected, error = epilogue.evaluate(sums, rounded, rows)
    if values["out"].kind in CODES:
        return storing_codes(expected, error + UNIT_ROUNDOFF * np.abs(expected), values["out"])
    return Reference(expected, error + UNIT_ROUNDOFF * np.abs(expected) + 2.0**-125)
