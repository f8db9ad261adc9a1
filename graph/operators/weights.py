"""Random quantised weights, of any format, for verification."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fettle.graph.codevalues import code_values
from fettle.graph.formats import FLOATS, Format
from fettle.graph.quantized import QuantizedWeight

_LEAST_STEPS = 4
"""That a scale should have above zero in its format: it is then off by an eighth at most, no more than a code with two
bits of mantissa. The formats with so large numbers that this matters have no more bits."""


def random_weight(fmt: Format, rows: int, k: int, rng: np.random.Generator) -> QuantizedWeight:
    """Codes of any value, with scales that bring the weights' deviation to about 1/√K: results are O(1)."""
    if fmt.encodes_numbers:
        return _random_numbers(fmt, rows, k, rng)
    codes = rng.integers(0, fmt.levels, (rows, k), np.uint8)
    if fmt.is_binary_coded:  # each plane half as large as the one before
        halves = np.float32(0.5) ** np.arange(fmt.scale_planes, dtype=np.float32)
        planes = (0.5 + rng.random((rows, fmt.groups(k), fmt.scale_planes), np.float32)) * halves
        return QuantizedWeight(fmt, codes, (planes / np.float32(np.sqrt(k))).astype(fmt.scale_dtype))
    spread = fmt.step * np.sqrt((fmt.levels**2 - 1) / 12.0)
    scales = (0.5 + rng.random((rows, fmt.groups(k)), np.float32)) / np.float32(spread * np.sqrt(k))
    zero_points = rng.integers(0, fmt.levels, scales.shape, np.uint8) if fmt.zero_points else None
    return QuantizedWeight(fmt, codes, scales.astype(fmt.scale_dtype), zero_points)


def _random_numbers(fmt: Format, rows: int, k: int, rng: np.random.Generator) -> QuantizedWeight:
    """Codes that are numbers, evenly; scales that bring their deviation to 1/√K, as the scales' format allows."""
    usable, unit = _usable_codes(fmt, k)
    codes = usable[rng.integers(0, len(usable), (rows, k), np.uint8)]
    scales = 0.5 + rng.random((rows, fmt.groups(k)), np.float32)
    if fmt.has_tensor_scale:
        return QuantizedWeight(fmt, codes, scales.astype(fmt.scale_dtype), tensor_scale=np.array([unit], np.float32))
    scales *= unit
    if fmt.scale == "e8m0":
        scales = np.exp2(np.round(np.log2(scales)))
    return QuantizedWeight(fmt, codes, scales.astype(fmt.scale_dtype))


def _usable_codes(fmt: Format, k: int) -> tuple[NDArray[np.uint8], np.float32]:
    """Codes to draw from, and the scale that brings their deviation to 1/√K.

    All that are finite numbers, unless the scale would vanish: with the largest numbers of six bits of exponent it is
    about 2^-37, and f16 ends at 2^-24. Then the largest are left out, which weights so small have no use for.
    """
    values = code_values(fmt.kind)
    finite = np.flatnonzero(np.isfinite(values)).astype(np.uint8)
    least = 0.0
    if fmt.scale in FLOATS:
        least = 2 * _LEAST_STEPS * float(np.finfo(fmt.scale_dtype).smallest_subnormal)  # scales are half of it and more
    for largest in np.unique(np.abs(values[finite]))[::-1]:
        usable = finite[np.abs(values[finite]) <= largest]
        unit = np.float32(1.0 / np.sqrt(np.mean(values[usable] ** 2) * k))
        if unit >= least:
            break
    return usable, unit
