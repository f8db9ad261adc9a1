"""A function of schedules as a sum of functions of one column each, and what these leave.

The smallest of the additive Gaussian processes of Duvenaud et al. (2011), "Additive Gaussian Processes". What a tile
size does by itself can be learned from far fewer points than what it does along with all other parameters.
"""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.costmodel.covariance import Hyperparameters

Array = NDArray[np.float64]

_INTERACTIONS = 0.3
"""Variance of what no sum explains, of a function with variance 1."""


@attrs.frozen(eq=False)
class Effects:
    """What a known device has of each column.

    Attributes:
        columns: [points, columns], the effect of each column, with mean 0 over the points.
        rest: [points], what the effects leave of the device, with mean 0.
    """

    columns: Array
    rest: Array

    @classmethod
    def of(cls, features: Array, scores: Array, rows: NDArray[np.int64]) -> Effects:
        """By regression on some rows.

        Args:
            features: [points, columns] in about 0 … 1.
            scores: [points] with variance about 1.
        """
        count = features.shape[1]
        places, targets = features[rows], scores[rows] - scores[rows].mean()
        covariance = column_kernels(places, places).mean(axis=0) + _INTERACTIONS * np.eye(len(rows))
        weights = np.linalg.solve(covariance, targets) / count
        columns = np.empty((len(features), count))
        for number, column in enumerate(features.T):
            values, where = np.unique(column, return_inverse=True)  # a column has few
            columns[:, number] = (_kernel(values, places[:, number]) @ weights)[where]
        columns -= columns.mean(axis=0)
        return cls(columns, scores - scores.mean() - columns.sum(axis=1))


def column_kernels(one: Array, two: Array) -> Array:
    """Matérn-5/2 covariance of each column by itself, with variance 1, [columns, len(one), len(two)]."""
    return np.stack([_kernel(a, b) for a, b in zip(one.T, two.T, strict=True)])


def _kernel(one: Array, two: Array) -> Array:
    return Hyperparameters.initial(1).kernel(one[:, None], two[:, None])
