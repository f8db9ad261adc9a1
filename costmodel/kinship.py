"""The supposition that a new device is related to some of the known ones, as a prior of its times."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.costmodel.additive import Effects, column_kernels
from fettle.costmodel.covariance import Hyperparameters

Array = NDArray[np.float64]
Indices = Sequence[int] | NDArray[np.int64]

_WEIGHT_VARIANCE = 0.25
"""Of a device's weight everywhere, and as much again of its variation over the space."""


@attrs.frozen
class Variances:
    """Of the parts of what is the new device's own.

    Attributes:
        effect: of the weight of what one column does on a known device.
        rest: of the weight of what all columns together leave of a known device.
        additive: of a sum of functions of one column.
        rough: of what varies at scales that are learned.
        smooth: of what varies slowly in all columns.
    """

    effect: float
    rest: float
    additive: float
    rough: float
    smooth: float


@attrs.frozen(eq=False)
class Kinship:
    """A Gaussian prior of the normal scores of the times of all points (see :mod:`fettle.costmodel.newdevice`).

    Attributes:
        features: [points, columns].
        scores: [points, kin].
        effects: of each of the kin.
        scales: [columns], inverse squared length scales of the rough part.
        variances: of the parts of what is its own.
        own: factor of these, and of how the weights of the kin vary over the space.
    """

    features: Array
    scores: Array
    effects: Sequence[Effects]
    scales: Array
    variances: Variances
    own: float = 1.0

    def covariance(self, one: Indices, two: Indices) -> Array:
        """Prior covariance, [len(one), len(two)]."""
        a, b, v = self.features[one], self.features[two], self.variances
        trend = _WEIGHT_VARIANCE * (self.scores[one] @ self.scores[two].T)
        smooth = Hyperparameters.initial(a.shape[1]).kernel(a, b)
        own = trend * smooth + v.smooth * smooth + v.rough * Hyperparameters(self.scales, 1.0, 0.0).kernel(a, b)
        if v.additive:
            own += v.additive * np.tensordot(self._shares, column_kernels(a, b), 1)
        for kin in self.effects:
            own += v.effect * (kin.columns[one] @ kin.columns[two].T) + v.rest * np.outer(kin.rest[one], kin.rest[two])
        return 1.0 + trend + self.own * own

    @functools.cached_property
    def _shares(self) -> Array:
        """[columns] of the additive part, with sum 1: half in equal parts, half as the kin vary along columns."""
        variances = np.sum([kin.columns.var(axis=0) for kin in self.effects], axis=0)
        return np.asarray(0.5 / len(variances) + 0.5 * variances / variances.sum(), np.float64)
