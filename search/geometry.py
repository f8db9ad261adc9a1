"""Distances between the points of a space, for repairing proposals and for keeping a batch diverse."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fettle.backends.spaces import Points

Array = NDArray[np.float64]


class Geometry:
    """Places every point in the unit cube: numeric parameters by their choice's rank, others by equality.

    Ranks, not values: tiles 1, 2, 4 … 256 are equally far apart, as their choices are.
    """

    def __init__(self, points: Points) -> None:
        self._points = points
        parameters = points.space.parameters
        self._numeric = np.array([p.is_numeric for p in parameters], np.bool_)
        self._spans = np.array([max(len(p.choices) - 1, 1) for p in parameters], np.float64)

    def place(self, indices: Sequence[int]) -> Array:
        """Ranks of the choices of points, [n, parameters]."""
        ranks = self._points.encode(indices)
        for column, parameter in enumerate(self._points.space.parameters):
            if parameter.is_numeric:
                ranks[:, column] = np.searchsorted(np.array(parameter.choices, np.float64), ranks[:, column])
        return ranks

    def distances(self, ranks: Array, others: Array) -> Array:
        """Mean over parameters of the rank difference scaled to 0 … 1, or of inequality; [len(ranks), len(others)]."""
        total = np.zeros((len(ranks), len(others)))
        for column, (numeric, span) in enumerate(zip(self._numeric, self._spans, strict=True)):
            difference = np.abs(ranks[:, None, column] - others[None, :, column])
            total += difference / span if numeric else difference != 0.0
        return total / max(len(self._spans), 1)

    @staticmethod
    def hamming(ranks: Array, others: Array) -> NDArray[np.int64]:
        """How many parameters differ, [len(ranks), len(others)]."""
        differ: NDArray[np.int64] = (ranks[:, None, :] != others[None, :, :]).sum(axis=2)
        return differ
