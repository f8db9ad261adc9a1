"""A model of log(time / bound) with its own uncertainty: a Gaussian process for few trials, trees for many.

A Gaussian process (Matérn 5/2, one length scale a feature) ranks best and knows what it does not know below some
hundred trials, but its cost grows with their cube; boosted trees take over there. Both run on one thread, so that a
fit between two batches stays out of the way, and give the same answer for the same data and seed.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

GAUSSIAN_PROCESS_BELOW = 150
"""Trials from which on trees are used."""

_LENGTH_SCALE_SAMPLES = 64
"""Length scales are learned from at most this many trials (the better half and a random rest), then all are fitted."""

_OPTIMIZER_STEPS = 4
"""Steps of the likelihood's optimizer. Stopping early keeps length scales near each other, where a few dozen trials
cannot tell them apart: on 24 synthetic spaces the best of 64 trials is 2 to 8 % faster than after 12 steps."""
_BAGS = 4
_SMALLEST_STD = 0.01


@attrs.frozen(eq=False)
class Prediction:
    """Mean and standard deviation of log(time / bound), one per row."""

    mean: Array
    std: Array


class CostModel:
    """Fit, then predict. Deterministic: the same seed, rows and targets give the same predictions."""

    def __init__(self, seed: int = 0, gaussian_process_below: int = GAUSSIAN_PROCESS_BELOW) -> None:
        self._seed = seed
        self._gaussian_process_below = gaussian_process_below
        self._model: _GaussianProcess | _Trees | None = None

    @property
    def is_fitted(self) -> bool:
        return self._model is not None

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
        self._model = None
        if valid.sum() < 2 or np.ptp(targets[valid]) == 0.0:
            return False
        slow = targets[valid].max() + 0.5 * targets[valid].std()
        y = np.where(valid, targets, slow)
        kind = _GaussianProcess if len(y) < self._gaussian_process_below else _Trees
        with single_threaded():
            self._model = kind(np.asarray(features, np.float64), y, self._seed)
        return True

    def predict(self, features: Array) -> Prediction:
        """Predictions of [rows, columns]. Raises ValueError before a successful fit."""
        if self._model is None:
            raise ValueError("the cost model has not been fitted")
        with single_threaded():
            mean, std = self._model.predict(np.asarray(features, np.float64))
        return Prediction(mean, np.maximum(std, _SMALLEST_STD))


class _GaussianProcess:
    def __init__(self, features: Array, y: Array, seed: int) -> None:
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

        seen = ~np.isnan(features)
        counts = np.maximum(seen.sum(axis=0), 1)
        self._mean = np.where(seen, features, 0.0).sum(axis=0) / counts
        deviation = np.sqrt((np.where(seen, features - self._mean, 0.0) ** 2).sum(axis=0) / counts)
        # a column that never varied keeps scale 1: a point that differs there is far away, hence uncertain
        self._scale = np.where(deviation > 1e-12, deviation, 1.0)
        x = self._standardise(features)
        start = np.full(x.shape[1], 2.0 * np.sqrt(x.shape[1]))
        kernel = ConstantKernel(1.0, (0.05, 50.0)) * Matern(start, (0.3, 300.0), nu=2.5) + WhiteKernel(
            0.02, (1e-5, 1.0)
        )
        chosen = _length_scale_sample(y, seed)
        with warnings.catch_warnings():  # length scales at their bounds, and a stopped optimizer, are intended
            warnings.simplefilter("ignore")
            learner = GaussianProcessRegressor(kernel, normalize_y=True, optimizer=_descend, random_state=seed)
            kernel = learner.fit(x[chosen], y[chosen]).kernel_
            self._process = GaussianProcessRegressor(kernel, normalize_y=True, optimizer=None, random_state=seed)
            self._process.fit(x, y)

    def _standardise(self, features: Array) -> Array:
        return np.where(np.isnan(features), 0.0, (features - self._mean) / self._scale)

    def predict(self, features: Array) -> tuple[Array, Array]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mean, std = self._process.predict(self._standardise(features), return_std=True)
        return mean, std


class _Trees:
    """Boosted trees on bootstrap samples; their spread is the uncertainty."""

    def __init__(self, features: Array, y: Array, seed: int) -> None:
        import lightgbm

        options = {
            "objective": "regression",
            "num_leaves": 15,
            "min_data_in_leaf": 4,
            "learning_rate": 0.12,
            "feature_fraction": 0.8,
            "num_threads": 1,
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
        }
        rng = np.random.default_rng(seed)
        self._boosters = []
        for bag in range(_BAGS):
            rows = np.sort(rng.integers(0, len(y), len(y))) if bag else np.arange(len(y))
            data = lightgbm.Dataset(features[rows], y[rows])
            self._boosters.append(lightgbm.train(options | {"seed": seed + bag}, data, num_boost_round=80))

    def predict(self, features: Array) -> tuple[Array, Array]:
        each = np.stack([booster.predict(features, num_threads=1) for booster in self._boosters])
        return each.mean(axis=0), each.std(axis=0)


def _length_scale_sample(y: Array, seed: int) -> NDArray[np.int64]:
    order = np.argsort(y, kind="stable")
    if len(y) <= _LENGTH_SCALE_SAMPLES:
        return np.sort(order)
    half = _LENGTH_SCALE_SAMPLES // 2
    rest = np.random.default_rng(seed).permutation(order[half:])[: _LENGTH_SCALE_SAMPLES - half]
    return np.sort(np.concatenate([order[:half], rest]))


def _descend(objective: Any, initial_theta: Array, bounds: Array) -> tuple[Array, float]:
    """L-BFGS, stopped early."""
    from scipy.optimize import minimize

    options = {"maxiter": _OPTIMIZER_STEPS}
    found = minimize(objective, initial_theta, method="L-BFGS-B", jac=True, bounds=bounds, options=options)
    return found.x, float(found.fun)


def import_libraries() -> None:
    """Import what fitting needs, about a second of work, at a moment when time is not measured."""
    _thread_pools()


@functools.cache
def _thread_pools() -> Any:
    import lightgbm  # noqa: F401  # both first, since a controller knows the libraries loaded so far
    import sklearn.gaussian_process  # noqa: F401
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def single_threaded() -> Any:
    """A context in which BLAS and OpenMP use one thread."""
    return _thread_pools().limit(limits=1)
