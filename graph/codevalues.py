"""The numbers that codes of minifloats and of fixed-point formats stand for."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from fettle.graph.formats import BITS, FIXED_POINT, MINIFLOATS


def code_values(kind: str) -> NDArray[np.float64]:
    """The number each code of a format that encodes numbers stands for, ``[2^bits]``, read-only."""
    return _fixed_point_values(kind) if kind in FIXED_POINT else minifloat_values(kind)


@functools.cache
def _fixed_point_values(kind: str) -> NDArray[np.float64]:
    codes = np.arange(1 << BITS[kind])
    integers = np.where(codes >> (BITS[kind] - 1), codes - len(codes), codes)
    values: NDArray[np.float64] = integers / 2.0 ** FIXED_POINT[kind]
    values.setflags(write=False)
    return values


@functools.cache
def minifloat_values(kind: str) -> NDArray[np.float64]:
    """The number each code of a minifloat stands for, ``[2^bits]``, read-only.

    NaN and infinity where OFP8 has them: the last mantissa of ``f8e4m3``'s largest exponent, and all of
    ``f8e5m2``'s largest exponent, are no numbers.
    """
    exponent_bits, mantissa_bits = MINIFLOATS[kind]
    codes = np.arange(1 << BITS[kind])
    sign = np.where(codes >> (BITS[kind] - 1), -1.0, 1.0)
    exponent = (codes >> mantissa_bits) & ((1 << exponent_bits) - 1)
    fraction = (codes & ((1 << mantissa_bits) - 1)) / (1 << mantissa_bits)
    bias = (1 << (exponent_bits - 1)) - 1
    magnitude = np.where(exponent == 0, fraction * 2.0 ** (1 - bias), (1.0 + fraction) * 2.0 ** (exponent - bias))
    if kind == "f8e4m3":
        magnitude[codes & 0x7F == 0x7F] = np.nan
    elif kind == "f8e5m2":
        magnitude[exponent == 31] = np.where(fraction == 0.0, np.inf, np.nan)[exponent == 31]
    values: NDArray[np.float64] = sign * magnitude
    values.setflags(write=False)
    return values
