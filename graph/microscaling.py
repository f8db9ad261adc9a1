"""Floats to the block formats of OCP MX 1.0 (section 6.3): ``mxfp4 mxfp6 mxfp8 mxint8``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fettle.graph.codevalues import code_values
from fettle.graph.errors import InvalidArgument
from fettle.graph.formats import Format
from fettle.graph.quantized import QuantizedWeight

_LEAST_SCALE, _LARGEST_SCALE = -127, 127
"""Exponents of e8m0."""


def quantise(matrix: NDArray[np.floating], fmt: Format) -> QuantizedWeight:
    """A weight matrix ``[N, K]`` in one of OCP's formats.

    A block's scale is the largest power of two of its largest magnitude over that of the format's largest number.
    Elements are rounded to nearest, ties to the even code, and saturate; the format's range is made symmetric.

    Raises:
        InvalidArgument: the format's scales are no powers of two, or the matrix has numbers that are not finite.
    """
    if not fmt.encodes_numbers or fmt.scale != "e8m0":
        raise InvalidArgument(f"{fmt} is not one of OCP's block formats", hint="mxfp4 mxfp6 mxfp8 mxint8")
    if matrix.ndim != 2 or not np.isfinite(matrix).all():
        raise InvalidArgument("the weight must be a matrix [N, K] of finite numbers")
    k = matrix.shape[1]
    group = k if not fmt.group else fmt.group
    starts = np.arange(0, k, group)
    numbers = _magnitudes(fmt)
    largest = np.maximum.reduceat(np.abs(matrix.astype(np.float64)), starts, axis=1)
    exponents = np.frexp(largest)[1] - np.frexp(numbers[-1])[1]
    exponents = np.clip(np.where(largest > 0.0, exponents, _LEAST_SCALE), _LEAST_SCALE, _LARGEST_SCALE)
    scales = 2.0**exponents
    scaled = matrix / np.repeat(scales, group, axis=1)[:, :k]
    return QuantizedWeight(fmt, _codes(scaled, numbers, fmt), scales.astype(fmt.scale_dtype))


def _magnitudes(fmt: Format) -> NDArray[np.float64]:
    """The numbers of the codes 0, 1, … whose sign bit is clear, ascending."""
    values = code_values(fmt.kind)[: fmt.levels // 2]
    return np.asarray(values[np.isfinite(values)])


def _codes(scaled: NDArray[np.floating], numbers: NDArray[np.float64], fmt: Format) -> NDArray[np.uint8]:
    """The codes of the numbers nearest to some, ties to the even one."""
    magnitude, middles = np.abs(scaled), (numbers[1:] + numbers[:-1]) / 2.0
    below, above = (np.searchsorted(middles, magnitude, side) for side in ("left", "right"))
    codes = np.where(below % 2 == 0, below, above).astype(np.uint8)  # they differ, by one, where there is a tie
    if fmt.is_fixed_point:
        return np.asarray(np.where(scaled < 0.0, -codes, codes), np.uint8)
    return np.asarray(codes | np.signbit(scaled).astype(np.uint8) << np.uint8(fmt.bits - 1))
