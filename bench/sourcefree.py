"""Ten measurements on a device nobody knows anything like: what to measure, and how to predict the rest.

The rivals of predictions that know other devices. Nothing of these is used here, not even to choose the points.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from fettle.costmodel.additive import column_kernels
from fettle.costmodel.covariance import Hyperparameters
from fettle.costmodel.gaussian import GaussianProcess
from fettle.costmodel.likelihood import learn
from fettle.costmodel.metrics import spearman
from fettle.costmodel.newdevice import least_uncertainty, predict_alone

Array = NDArray[np.float64]

_POOL = 800
"""Random points among which a design chooses."""

_NOISE = 0.05
_RIDGE = 0.3
_FIRST = 4
"""Random points of a sequential design."""

_LEAVES = {"num_leaves": 4, "min_data_in_leaf": 2, "min_data_in_bin": 1, "num_threads": 1, "verbosity": -1}
_ROUNDS = 100

Design = Callable[[Array, Array, int, np.random.Generator], list[int]]
"""Points to measure, given [points, columns], log(time) or NaN of each (which only a sequential design may look at, and
only where it has measured), how many, and where luck comes from."""

Model = Callable[[Array, list[int], Array], Array]
"""log(time) of every point up to scale and offset, given [points, columns], the points measured, and log(time) of
these."""


def best_alone(features: Array, times: Array, count: int, seeds: int) -> tuple[float, str]:
    """The largest rank correlation with the times that were not measured, of all designs with all models: mean over
    seeds, and the two names.

    The best pair is found with the times of the whole space, so it is more than anyone could have known beforehand.

    Args:
        features: [points, columns].
        times: [points], log(time), NaN where a point failed.
    """
    found = {}
    for name, design in DESIGNS.items():
        chosen = [design(features, times, count, np.random.default_rng(seed)) for seed in range(seeds)]
        for model, mean in model_means(features, times, chosen).items():
            found[f"{name}, {model}"] = mean
    best = max(found, key=lambda pair: found[pair])
    return found[best], best


def model_means(features: Array, times: Array, chosen: list[list[int]]) -> dict[str, float]:
    """Rank correlation of every model with the times that were not measured, mean over several choices of points."""
    return {
        name: float(np.mean([correlation(model, features, times, points) for points in chosen]))
        for name, model in MODELS.items()
    }


def correlation(model: Model, features: Array, times: Array, chosen: list[int]) -> float:
    """Rank correlation of predictions with the times of the points that were not chosen; 0 if nothing is predicted."""
    worked = [at for at in chosen if np.isfinite(times[at])]
    try:
        predicted = model(features, worked, times[worked])
    except ValueError:  # so many failed that nothing can be predicted
        return 0.0
    rest = np.setdiff1d(np.flatnonzero(np.isfinite(times)), chosen)
    return spearman(predicted[rest], times[rest]) or 0.0


def _random(features: Array, times: Array, count: int, rng: np.random.Generator) -> list[int]:
    return [int(at) for at in rng.permutation(len(features))[:count]]


def _maximin(features: Array, times: Array, count: int, rng: np.random.Generator) -> list[int]:
    """Each as far as possible from those before it (Johnson et al., 1990)."""
    pool = rng.permutation(len(features))[:_POOL]
    apart = _distances(features[pool], features[pool])
    chosen = [0]
    while len(chosen) < count:
        chosen.append(int(np.argmax(apart[chosen].min(axis=0))))
    return [int(pool[at]) for at in chosen]


def _medoids(features: Array, times: Array, count: int, rng: np.random.Generator) -> list[int]:
    """Each so that the points of the pool are near to one of them in the mean."""
    pool = rng.permutation(len(features))[:_POOL]
    apart = _distances(features[pool], features[pool])
    nearest = np.full(len(pool), np.inf)
    chosen: list[int] = []
    while len(chosen) < count:
        reach = np.minimum(apart, nearest).sum(axis=0)
        reach[chosen] = np.inf
        chosen.append(int(np.argmin(reach)))
        nearest = np.minimum(nearest, apart[chosen[-1]])
    return [int(pool[at]) for at in chosen]


def _sobol(features: Array, times: Array, count: int, rng: np.random.Generator) -> list[int]:
    """Those nearest to a scrambled Sobol sequence."""
    from scipy.stats import qmc

    sequence = qmc.Sobol(features.shape[1], rng=rng).random_base2(max(count - 1, 1).bit_length())[:count]
    chosen: list[int] = []
    for apart in _distances(sequence, features):
        apart[chosen] = np.inf
        chosen.append(int(np.argmin(apart)))
    return chosen


def _least_uncertainty(features: Array, times: Array, count: int, rng: np.random.Generator) -> list[int]:
    """Greedy A-optimality under a process that varies alike along all columns."""
    pool = rng.permutation(len(features))[:_POOL]
    covariance = Hyperparameters.initial(features.shape[1]).kernel(features[pool], features[pool])
    return [int(pool[at]) for at in least_uncertainty([covariance], count)]


def _sequential(features: Array, times: Array, count: int, rng: np.random.Generator) -> list[int]:
    """Each where a process that has learned from those before it is least certain."""
    pool = rng.permutation(len(features))[:_POOL]
    chosen = list(range(_FIRST))
    while len(chosen) < count:
        worked = [at for at in chosen if np.isfinite(times[pool[at]])]
        targets = times[pool[worked]]
        columns = features[pool]
        hyper = Hyperparameters.initial(columns.shape[1])
        if len(worked) > 1 and np.ptp(targets) > 0.0:
            hyper = learn(columns[worked], (targets - targets.mean()) / targets.std())
        process = GaussianProcess(hyper, columns)
        process.extend(columns[chosen])
        variance = process.variance.copy()
        variance[chosen] = -1.0
        chosen.append(int(np.argmax(variance)))
    return [int(pool[at]) for at in chosen]


def _alike(features: Array, chosen: list[int], log_times: Array) -> Array:
    """A process that varies alike along all columns."""
    kernel = Hyperparameters.initial(features.shape[1]).kernel
    return _regression(kernel(features[chosen], features), chosen, log_times)


def _additive(features: Array, chosen: list[int], log_times: Array) -> Array:
    """A sum of processes of one column each."""
    return _regression(column_kernels(features[chosen], features).mean(axis=0), chosen, log_times)


def _linear(features: Array, chosen: list[int], log_times: Array) -> Array:
    """Ridge regression on the columns, which are logarithms and ranks."""
    centred = features - features[chosen].mean(axis=0)
    return _regression(centred[chosen] @ centred.T, chosen, log_times, _RIDGE)


def _trees(features: Array, chosen: list[int], log_times: Array) -> Array:
    """LightGBM with leaves as small as so few points need."""
    import lightgbm

    _varied(log_times)
    options = {**_LEAVES, "objective": "regression"}
    booster = lightgbm.train(options, lightgbm.Dataset(features[chosen], log_times), num_boost_round=_ROUNDS)
    return np.asarray(booster.predict(features, num_threads=1), np.float64)


def _regression(covariance: Array, chosen: list[int], log_times: Array, noise: float = _NOISE) -> Array:
    """Posterior mean from the covariance of the chosen points with all."""
    _varied(log_times)
    targets = (log_times - log_times.mean()) / log_times.std()
    weights = np.linalg.solve(covariance[:, chosen] + noise * np.eye(len(chosen)), targets)
    return np.asarray(weights @ covariance, np.float64)


def _varied(log_times: Array) -> None:
    if len(log_times) < 2 or np.ptp(log_times) == 0.0:
        raise ValueError("two different times are needed")


def _distances(one: Array, two: Array) -> Array:
    from scipy.spatial.distance import cdist

    return np.asarray(cdist(one, two), np.float64)


DESIGNS: Mapping[str, Design] = {
    "random points": _random,
    "maximin": _maximin,
    "medoids": _medoids,
    "Sobol": _sobol,
    "least uncertainty": _least_uncertainty,
    "sequential": _sequential,
}

MODELS: Mapping[str, Model] = {
    "Gaussian process": predict_alone,
    "isotropic process": _alike,
    "additive process": _additive,
    "ridge": _linear,
    "trees": _trees,
}
