"""The prior covariance of the Gaussian process, and its hyperparameters.

``f ~ GP(trend · weights, variance · Matérn-5/2(r))`` with ``r² = Σ scale_c (x_c - x'_c)²``, one scale a column
(Rasmussen and Williams, 2006, ch. 4.2). ``trend`` columns are predictions that come from elsewhere (other devices,
other shapes); their weights are Gaussian too, so the first trials correct the offset and how much each source is
believed (ibid., 2.7).
"""

from __future__ import annotations

import math
from typing import TypeVar

import attrs
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Single = NDArray[np.float32]
Real = TypeVar("Real", Array, Single)

ROOT5 = math.sqrt(5.0)
JITTER = 1e-6
"""Added to the noise: rounding must leave covariances positive definite."""

_START_NOISE = 0.01
_TREND_DEVIATION = 0.5
"""How far the weight of one source is from an equal share, a priori."""

_OFFSET_DEVIATION = 1.0
"""How far targets are, a priori, from what the sources expect, in their standard deviations."""


@attrs.frozen(eq=False)
class Hyperparameters:
    """Of targets with standard deviation about 1, and features in about 0 … 1.

    Attributes:
        scales: [columns], inverse squared length scales.
        variance: of the part the trend does not explain.
        noise: variance of a trial about the function.
    """

    scales: Array
    variance: float
    noise: float

    @classmethod
    def initial(cls, columns: int) -> Hyperparameters:
        """Length scales of half the unit cube's diagonal: neighbours are alike, opposite corners are not."""
        return cls(np.full(columns, 4.0 / max(columns, 1)), 1.0, _START_NOISE)

    def scaled(self, features: Array) -> Array:
        """[points, columns] in units of the length scales."""
        return np.asarray(features * np.sqrt(self.scales), np.float64)

    def kernel(self, one: Array, two: Array) -> Array:
        """Prior covariance of the Matérn part, [len(one), len(two)]."""
        a, b = self.scaled(one), self.scaled(two)
        return matern(a, b, (b * b).sum(axis=1), self.variance)


def matern(one: Real, two: Real, two_squared: Real, variance: float) -> Real:
    """Covariance of scaled places, [len(one), len(two)], in their precision.

    Args:
        two_squared: [len(two)], squared lengths.
    """
    squared = one @ two.T
    squared *= -2.0
    squared += (one * one).sum(axis=1)[:, None]
    squared += two_squared
    np.maximum(squared, 0.0, out=squared)
    distance: Real = np.sqrt(squared)
    distance *= ROOT5
    squared *= 5.0 / 3.0
    squared += distance
    squared += 1.0
    np.negative(distance, out=distance)
    np.exp(distance, out=distance)
    distance *= squared
    distance *= variance
    return distance


def trend_covariance(one: Array, two: Array) -> Array:
    """Prior covariance of the trend part, [len(one), len(two)]."""
    return np.asarray(_TREND_DEVIATION**2 * (one @ two.T) + _OFFSET_DEVIATION**2, np.float64)


def trend_variance(trend: Array) -> Array:
    """Its diagonal, [points]; without sources there is no trend part."""
    if not trend.shape[1]:
        return np.zeros(len(trend))
    return np.asarray(_TREND_DEVIATION**2 * (trend**2).sum(axis=1) + _OFFSET_DEVIATION**2, np.float64)
