"""Figures of a benchmark: geometric means, errors, areas."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def geometric_mean(ratios: Sequence[float]) -> float:
    """The mean that treats 2x and 0.5x as opposites. Ratios are positive, at least one."""
    return math.exp(math.fsum(map(math.log, ratios)) / len(ratios))


def normalised_error(got: np.ndarray, expected: np.ndarray) -> float:
    """Mean squared error over mean squared result; infinite where the result is not finite."""
    difference = np.asarray(got).astype(np.float64) - expected
    energy = float((expected**2).sum())
    error = float((difference**2).sum())
    return error / energy if math.isfinite(error) and energy else 0.0 if error == 0.0 else math.inf


def dominated_area(found: Sequence[tuple[float, float]], corner: tuple[float, float]) -> float:
    """Area that a front of two objectives dominates below a corner (its hypervolume)."""
    total, height = 0.0, corner[1]
    for one, two in sorted(found):
        if one < corner[0] and two < height:
            total += (corner[0] - one) * (height - two)
            height = two
    return total
