"""Which points of the pool give a right result."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fettle.costmodel.gaussian import GaussianProcess
from fettle.costmodel.likelihood import learn

Array = NDArray[np.float64]

LEAST = 1e-3
"""No point is given up for lost, but one that is expected to fail and be much faster than the rest is not tried again
and again."""

_LEARNED_FROM = 64
"""Hyperparameters are learned from at most so many trials, the latest. From 128 searches ended where they do now, and
their longest proposals took a fifth longer."""


class Feasibility:
    """Least-squares classification by a Gaussian process (Rasmussen and Williams, 2006, 6.5); nothing before the first
    failure.

    The process is of 1 for a failure and 0 for a success, about the share that failed, and a point works if its value
    is below a half. Length scales and noise are its own: where failures have no pattern, they are learned to be noise,
    and about the same is expected everywhere.

    Args:
        features: [trials, columns], where the trials were made.
        failed: [trials].
        pool: [points, columns], where predictions are wanted.
    """

    def __init__(self, features: Array, failed: NDArray[np.bool_], pool: Array) -> None:
        self._features, self._failed, self._pool = features, failed, pool
        self._deviation = 1.0  # of the targets when hyperparameters were learned, which are in units of it
        self._process = self._learned() if failed.any() else None

    def add(self, features: Array, failed: NDArray[np.bool_]) -> None:
        """Learn how further trials turned out."""
        self._features = np.concatenate([self._features, features])
        self._failed = np.concatenate([self._failed, failed])
        if self._process is not None:
            self._process.extend(features)
        elif failed.any():
            self._process = self._learned()

    def probability(self) -> Array | float:
        """That a point of the pool works, [points], or the same one of all."""
        from scipy.special import ndtr

        if self._process is None:
            return 1.0
        share = self._failed.mean()
        mean = share + self._process.mean(self._failed - share)
        std = self._deviation * np.sqrt(self._process.variance + self._process.hyper.noise)
        return np.maximum(np.asarray(ndtr((0.5 - mean) / std), np.float64), LEAST)

    def _learned(self) -> GaussianProcess:
        self._deviation = float(self._failed.std()) or 1.0  # 0 if all failed
        targets = (self._failed - self._failed.mean()) / self._deviation
        process = GaussianProcess(learn(self._features[-_LEARNED_FROM:], targets[-_LEARNED_FROM:]), self._pool)
        process.extend(self._features)
        return process
