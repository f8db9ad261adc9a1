"""Figures of a benchmark: geometric means and errors."""

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
