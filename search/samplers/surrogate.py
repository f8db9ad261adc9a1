"""What the guided sampler believes about its pool.

Only differences among fast points matter for finding faster ones, but times of slow points vary over orders of
magnitude, and a model that has to explain them has no attention left. So a process learns normal scores of the ranks,
unless a prior speaks in log(time): then, as for trees, times above those that count as fast are cut off. A process
learns from the trials that worked, and another says which do; trees take failures for trials as slow as the cut.
"""

from __future__ import annotations

import abc
import copy
import math
from collections.abc import Callable

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.costmodel.gaussian import GaussianProcess
from fettle.costmodel.likelihood import learn
from fettle.costmodel.metrics import normal_scores
from fettle.costmodel.trees import BoostedTrees
from fettle.search.samplers.feasibility import LEAST, Feasibility

Array = NDArray[np.float64]

_FAST = 0.3
"""Share of the trials that count as fast."""

_LEARNED_FROM = 128
"""Length scales are learned from at most so many trials, the better half and the latest."""

_BAGS, _ROUNDS = 3, 60
"""Of trees that rate a whole pool: fewer than where only trials are predicted, since what they cost is the longest that
a proposal takes."""

_SMALLEST_STD = 1e-3


@attrs.frozen(eq=False)
class Places:
    """Where some points are.

    Attributes:
        features: [points, columns], about 0 … 1.
        trend: [points, sources], what each source expects there; no column without sources.
    """

    features: Array
    trend: Array

    def __getitem__(self, rows: slice | list[int] | NDArray[np.int64]) -> Places:
        return Places(self.features[rows], self.trend[rows])


@attrs.frozen(eq=False)
class Belief:
    """Predictions at a pool.

    Attributes:
        mean, std: [points], in the surrogate's own unit, smaller is faster.
        best: of the trials so far, in that unit.
        noise: standard deviation of a trial about the mean of its point, in that unit.
        log_time: log(time / bound) of values in that unit.
        per_unit: log(time) that one unit is worth near the best.
    """

    mean: Array
    std: Array
    best: float
    noise: float
    log_time: Callable[[Array], Array]
    per_unit: float

    def trial(self, at: int) -> tuple[float, float]:
        """log(time / bound) expected of a trial at a point of the pool, and its standard deviation."""
        mean, std = self.mean[at], math.hypot(self.std[at], self.noise)
        low, middle, high = self.log_time(np.array([mean - std, mean, mean + std])).tolist()
        return middle, max(0.5 * (high - low), _SMALLEST_STD)


class Surrogate(abc.ABC):
    """Predictions at a pool of points after some trials."""

    @abc.abstractmethod
    def add(self, trials: Places, values: Array) -> None:
        """Learn where further trials were made, and what came of them, as in :meth:`predict`."""

    @abc.abstractmethod
    def predict(self, values: Array) -> Belief:
        """What is expected at the pool.

        Args:
            values: log(time / bound) of all trials so far, infinity for a failure; at least two are finite.
        """

    @abc.abstractmethod
    def feasible(self) -> Array | float:
        """Probability that a point of the pool gives a right result."""

    @abc.abstractmethod
    def pretend(self, at: int) -> Surrogate:
        """This one after a trial at a point of the pool that went as predicted: only uncertainty is less there."""


class ProcessSurrogate(Surrogate):
    """A Gaussian process of the times of the trials that worked, and another of which trials worked, conditioned on
    trials one by one.

    A failure says nothing of how fast its neighbours are. Taken for slow trials, failures without a pattern would be
    noise that hides the differences among fast ones.

    Args:
        fast: log(time) ratio to the best up to which the sources tell times apart, and the scale of their trend;
            None without sources.
    """

    def __init__(
        self, trials: Places, values: Array, pool: Places, fast: float | None = None, scale: float | None = None
    ) -> None:
        self._fast, self._scale = fast, scale
        worked = np.flatnonzero(np.isfinite(values))
        valid, times = trials[worked], values[worked]
        rows = _instructive(times)
        hyper = learn(valid.features[rows], self._targets(times)[rows], valid.trend[rows])
        self._process = GaussianProcess(hyper, pool.features, pool.trend)
        self._process.extend(valid.features, valid.trend)
        self._feasibility = Feasibility(trials.features, ~np.isfinite(values), pool.features)

    def add(self, trials: Places, values: Array) -> None:
        worked = np.flatnonzero(np.isfinite(values))
        if len(worked):
            self._process.extend(trials.features[worked], trials.trend[worked])
        self._feasibility.add(trials.features, ~np.isfinite(values))

    def predict(self, values: Array) -> Belief:
        times = values[np.isfinite(values)]
        targets = self._targets(times)
        mean, std = self._process.mean(targets), np.maximum(np.sqrt(self._process.variance), _SMALLEST_STD)
        best, noise = float(targets.min()), math.sqrt(self._process.hyper.noise)
        if self._fast is not None and (scale := self._scale) is not None:
            return Belief(mean, std, best, noise, lambda units: (units - best) * scale + times.min(), scale)
        order = np.argsort(times, kind="stable")
        known, scores = times[order], targets[order]
        fast = int(_FAST * (len(times) - 1)) + 1
        per_unit = float((known[fast] - known[0]) / max(scores[fast] - scores[0], _SMALLEST_STD))

        def log_time(units: Array) -> Array:
            """Between the trials interpolated, below the best as steep as it is near the best."""
            return np.asarray(np.interp(units, scores, known) + per_unit * np.minimum(units - best, 0.0), np.float64)

        return Belief(mean, std, best, noise, log_time, per_unit)

    def feasible(self) -> Array | float:
        return self._feasibility.probability()

    def pretend(self, at: int) -> ProcessSurrogate:
        other = copy.copy(self)
        other._process = self._process.pretend(at)
        return other

    def _targets(self, values: Array) -> Array:
        """Normal scores with deviation 1, or cut log(time) in units of the prior."""
        if self._fast is not None and self._scale is not None:
            cut = np.minimum(values, values.min() + self._fast)
            return np.asarray((cut - cut.mean()) / self._scale, np.float64)
        scores = normal_scores(values)
        return np.asarray(scores / scores.std(), np.float64)


class TreeSurrogate(Surrogate):
    """Boosted trees: for so many trials that a process would be slow. Further trials wait for the next fit.

    Failures stay among the times, as slow as the cut. Trees split off regions that fail without hiding what is fast
    elsewhere, and without those trials the search was slower in recorded spaces with many failures.
    """

    def __init__(self, trials: Places, values: Array, pool: Places, seed: int) -> None:
        def columns(places: Places) -> Array:
            return np.concatenate([places.features, places.trend], axis=1)

        trees = BoostedTrees.fit(columns(trials), cut_off(values), seed, _BAGS, _ROUNDS)
        self._mean, self._std = trees.predict(columns(pool))
        self._feasible: Array | float = 1.0
        failed = ~np.isfinite(values)
        if failed.any():
            share = BoostedTrees.fit(columns(trials), failed.astype(np.float64), seed, 1, _ROUNDS)
            expected, _ = share.predict(columns(pool))
            self._feasible = np.clip(1.0 - expected, LEAST, 1.0)

    def add(self, trials: Places, values: Array) -> None:
        pass

    def predict(self, values: Array) -> Belief:
        std = np.maximum(self._std, _SMALLEST_STD)
        return Belief(self._mean, std, float(values.min()), 0.0, lambda units: units, 1.0)

    def feasible(self) -> Array | float:
        return self._feasible

    def pretend(self, at: int) -> TreeSurrogate:
        return self


def cut_off(values: Array) -> Array:
    """Values no larger than the slowest that counts as fast; failures are that slow too.

    If that leaves only one value, the slowest valid one is the limit.
    """
    valid = values[np.isfinite(values)]
    limit = float(np.quantile(valid, _FAST))
    if limit <= valid.min():
        limit = float(valid.max())
    return np.minimum(values, limit)


def _instructive(values: Array) -> NDArray[np.int64]:
    """Rows to learn length scales from, ascending."""
    if len(values) <= _LEARNED_FROM:
        return np.arange(len(values))
    order = np.argsort(values, kind="stable")
    half = _LEARNED_FROM // 2
    return np.sort(np.concatenate([order[:half], np.sort(order[half:])[-(_LEARNED_FROM - half) :]]))
