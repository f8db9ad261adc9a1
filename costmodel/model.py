"""The cost model: log(time / bound) of a candidate from its features, with intervals that hold.

A Gaussian process ranks best and knows what it does not know below some hundred trials; boosted trees take over
there. Both run on one thread, so that a fit between two trials stays out of the way, and give the same answer for the
same data and seed.
"""

from __future__ import annotations

import functools
import sys
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.costmodel.conformal import COVERAGE, quantile
from fettle.costmodel.covariance import Hyperparameters
from fettle.costmodel.gaussian import GaussianProcess
from fettle.costmodel.likelihood import learn
from fettle.costmodel.trees import BoostedTrees

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

Array = NDArray[np.float64]

GAUSSIAN_PROCESS_BELOW = 320
"""Trials from which on trees are used."""

_SMALLEST_STD = 0.01
"""Of log(time): no prediction is surer than to one percent."""

_FOLDS = 5
"""In which trials are predicted by models that did not see them."""


@attrs.frozen(eq=False)
class Prediction:
    """Mean and standard deviation of log(time / bound), one per row."""

    mean: Array
    std: Array

    def interval(self, width: float) -> tuple[Array, Array]:
        """``width`` standard deviations to both sides; see :meth:`CostModel.width`."""
        return self.mean - width * self.std, self.mean + width * self.std


@attrs.frozen(eq=False)
class Scaling:
    """Features to 0 … 1 over the trials, and targets to mean 0 and deviation 1. A missing feature is its mean."""

    low: Array
    span: Array
    middle: Array
    offset: float
    scale: float

    @classmethod
    def of(cls, features: Array, targets: Array) -> Scaling:
        seen = ~np.isnan(features)
        counts = np.maximum(seen.sum(axis=0), 1)
        middle = np.where(seen, features, 0.0).sum(axis=0) / counts
        low = np.where(seen, features, np.inf).min(axis=0)
        high = np.where(seen, features, -np.inf).max(axis=0)
        low, high = np.where(np.isfinite(low), low, 0.0), np.where(np.isfinite(high), high, 0.0)
        # a column that never varied keeps scale 1: a point that differs there is far away, hence uncertain
        span = np.where(high - low > 1e-12, high - low, 1.0)
        return cls(low, span, middle, float(targets.mean()), float(targets.std()) or 1.0)

    def features(self, features: Array) -> Array:
        return np.asarray((np.where(np.isnan(features), self.middle, features) - self.low) / self.span, np.float64)

    def targets(self, targets: Array) -> Array:
        return np.asarray((targets - self.offset) / self.scale, np.float64)

    def trend(self, features: Array, column: int | None) -> Array:
        """[rows, 1], an expected target in the scale of targets, less its mean over the trials; [rows, 0] without."""
        if column is None:
            return np.empty((len(features), 0))
        expected = np.where(np.isnan(features[:, column]), self.middle[column], features[:, column])
        return np.asarray(((expected - self.middle[column]) / self.scale)[:, None], np.float64)


@attrs.frozen(eq=False)
class ProcessFit:
    """A Gaussian process as arrays: its trials (scaled), what was expected of them, and hyperparameters.

    Attributes:
        analytic: column of the features that is an expectation of the target, or None.
        trend: [trials, 1 or 0], that column, as the targets are scaled.
    """

    scaling: Scaling
    hyper: Hyperparameters
    x: Array
    y: Array
    analytic: int | None
    trend: Array

    @classmethod
    def learn(cls, x: Array, y: Array, analytic: int | None) -> ProcessFit:
        """Hyperparameters from all trials."""
        scaling = Scaling.of(x, y)
        scaled, targets, trend = scaling.features(x), scaling.targets(y), scaling.trend(x, analytic)
        return cls(scaling, learn(scaled, targets, trend), scaled, targets, analytic, trend)

    def predict(self, features: Array) -> tuple[Array, Array]:
        trend = self.scaling.trend(features, self.analytic)
        process = GaussianProcess(self.hyper, self.scaling.features(features), trend)
        process.extend(self.x, self.trend)
        mean = process.mean(self.y) * self.scaling.scale + self.scaling.offset
        return mean, np.sqrt(process.variance + self.hyper.noise) * self.scaling.scale


class CostModel:
    """Fit, then predict. Deterministic: the same seed, rows and targets give the same predictions.

    Args:
        analytic: the column that is an expectation of the target from analysis, up to a constant; the process learns
            how far to believe it, and what it misses. None: there is none.
    """

    def __init__(
        self, seed: int = 0, gaussian_process_below: int = GAUSSIAN_PROCESS_BELOW, *, analytic: int | None = None
    ) -> None:
        self._seed = seed
        self._analytic = analytic
        self._gaussian_process_below = gaussian_process_below
        self.fitted: ProcessFit | BoostedTrees | None = None
        """What :mod:`fettle.costmodel.files` stores."""
        self._trials: tuple[Array, Array, NDArray[np.bool_]] | None = None
        self._scores: Array | None = None

    @property
    def scores(self) -> Array:
        """Of every valid trial, how many standard deviations it lies from what the trials of other folds predict of
        it; found when first asked for. None fitted, none scored."""
        if self._scores is None:
            if self._trials is None:
                return np.empty(0)
            x, y, valid = self._trials
            with single_threaded():
                mean, std = self._folds(x, y)
            self._scores = (np.abs(y - mean) / np.maximum(std, _SMALLEST_STD))[valid]
        return self._scores

    def fit(self, features: Array, targets: Array) -> bool:
        """Learn from all trials so far (nothing is kept from earlier fits).

        Args:
            features: [trials, columns]; NaN is missing.
            targets: log(time / bound); infinity is a failed trial, learned as a little slower than the slowest valid
                one, so that the search leaves regions that fail without a model of its own for them.

        Returns:
            Whether there was enough to learn from: two valid trials with different times.
        """
        valid = np.isfinite(targets)
        self.fitted = self._trials = self._scores = None
        if valid.sum() < 2 or np.ptp(targets[valid]) == 0.0:
            return False
        slow = targets[valid].max() + 0.5 * targets[valid].std()
        y = np.where(valid, targets, slow)
        x = np.asarray(features, np.float64)
        with single_threaded():
            self.fitted = self._learn(x, y, len(y))
        self._trials = x, y, valid
        return True

    def predict(self, features: Array) -> Prediction:
        """Predictions of [rows, columns]. Raises ValueError before a successful fit."""
        if self.fitted is None:
            raise ValueError("the cost model has not been fitted")
        with single_threaded():
            mean, std = self.fitted.predict(np.asarray(features, np.float64))
        return Prediction(mean, np.maximum(std, _SMALLEST_STD))

    def width(self, coverage: float = COVERAGE) -> float:
        """Standard deviations to both sides of a mean that contain a new trial with this probability, whatever the
        distribution, as long as it is drawn as the trials were (see :mod:`fettle.costmodel.conformal`)."""
        return quantile(self.scores, coverage)

    @classmethod
    def restore(cls, fitted: ProcessFit | BoostedTrees, scores: Array) -> CostModel:
        """A fitted model from its parts, as :mod:`fettle.costmodel.files` keeps them."""
        model = cls()
        model.fitted, model._scores = fitted, scores
        return model

    def _learn(self, x: Array, y: Array, trials: int) -> ProcessFit | BoostedTrees:
        """A model of some of so many trials."""
        if trials < self._gaussian_process_below:
            return ProcessFit.learn(x, y, self._analytic)
        return BoostedTrees.fit(x, y, self._seed)

    def _folds(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Predictions of every trial by a model that did not see its fold: one whose hyperparameters saw it would be
        too sure of it."""
        mean, std = np.empty(len(y)), np.empty(len(y))
        fold = np.random.default_rng(self._seed).permutation(len(y)) % min(_FOLDS, len(y))
        for number in range(min(_FOLDS, len(y))):
            out = fold == number
            mean[out], std[out] = self._learn(x[~out], y[~out], len(y)).predict(x[out])
        return mean, std


def import_libraries() -> None:
    """Import what the first fits need, at a moment when time is not measured."""
    single_threaded()


@functools.cache
def _thread_pools(with_trees: bool) -> ThreadpoolController:
    """A controller of the thread pools loaded so far; another one once LightGBM brought its own."""
    import scipy.linalg
    import scipy.optimize
    import scipy.special  # noqa: F401  # all first, since a controller knows the libraries loaded so far
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def single_threaded() -> AbstractContextManager[object]:
    """A context in which BLAS and OpenMP use one thread. (LightGBM, whose import takes seconds, waits for the first
    trees; they are told to use one thread themselves.)"""
    limited: AbstractContextManager[object] = _thread_pools("lightgbm" in sys.modules).limit(limits=1)
    return limited
