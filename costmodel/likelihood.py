"""Learns the hyperparameters of a Gaussian process (Rasmussen and Williams, 2006, ch. 5.4).

They maximise the likelihood times weak log-normal priors, which keep the scales of a few trials near each other.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fettle.costmodel.covariance import JITTER, ROOT5, Array, Hyperparameters, trend_covariance

_STEPS = 25
"""Of L-BFGS, at most."""

_SCALE_BOUNDS, _VARIANCE_BOUNDS, _NOISE_BOUNDS = (-8.0, 6.0), (-3.0, 4.0), (-9.0, 1.0)
"""Of the logarithms of hyperparameters."""

_SCALE_DEVIATION, _VARIANCE_DEVIATION, _NOISE_DEVIATION = 1.5, 1.0, 1.5
"""Standard deviations of the log-normal priors, whose medians are :meth:`Hyperparameters.initial`."""


def learn(features: Array, targets: Array, trend: Array | None = None) -> Hyperparameters:
    """The most probable hyperparameters, by L-BFGS with exact gradients; deterministic.

    Args:
        features: [trials, columns] in about 0 … 1.
        targets: [trials] with mean about 0 and standard deviation about 1.
        trend: [trials, sources].
    """
    from scipy.optimize import minimize

    columns = features.shape[1]
    first = Hyperparameters.initial(columns)
    start = np.log(np.concatenate([first.scales, [first.variance, first.noise]]))
    deviation = np.array([_SCALE_DEVIATION] * columns + [_VARIANCE_DEVIATION, _NOISE_DEVIATION])
    rows, others = np.tril_indices(len(features))
    pairs = rows * len(features) + others
    squared = np.stack([(c[rows] - c[others]) ** 2 for c in features.T])
    fixed, centred = _trend_part(trend, targets)
    fixed = fixed.ravel()[pairs]

    def loss(logs: Array) -> tuple[float, Array]:
        value, gradient = negative_log_likelihood(logs, pairs, squared, fixed, centred)
        away = (logs - start) / deviation
        return value + 0.5 * float(away @ away), gradient + away / deviation

    bounds = [_SCALE_BOUNDS] * columns + [_VARIANCE_BOUNDS, _NOISE_BOUNDS]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": _STEPS})
    scales, (variance, noise) = np.exp(found.x[:-2]), np.exp(found.x[-2:])
    return Hyperparameters(scales, float(variance), float(noise))


def negative_log_likelihood(
    logs: Array, pairs: NDArray[np.intp], squared: Array, fixed: Array, targets: Array
) -> tuple[float, Array]:
    """Of the logarithms of scales, variance and noise, up to a constant, and its gradient.

    All matrices are symmetric, so only their lower triangles are computed.

    Args:
        pairs: where the lower triangle's elements are in the whole matrix, row after row.
        squared: [columns, pairs], squared differences.
        fixed: [pairs], covariance that does not depend on ``logs``.
    """
    from scipy.linalg.lapack import dpotri

    n = len(targets)
    scales, variance, noise = np.exp(logs[:-2]), math.exp(logs[-2]), math.exp(logs[-1])
    r2 = scales @ squared
    r = ROOT5 * np.sqrt(r2)
    decay = np.exp(-r)
    matern = (1.0 + r + 5.0 / 3.0 * r2) * decay
    covariance = np.zeros((n, n))
    covariance.ravel()[pairs] = variance * matern + fixed
    covariance[np.diag_indices(n)] += noise + JITTER
    lower = np.linalg.cholesky(covariance)  # reads the lower triangle
    inverse = np.tril(dpotri(lower, lower=1)[0])
    weights = inverse @ targets + targets @ inverse - inverse.diagonal() * targets
    value = 0.5 * float(targets @ weights) + float(np.log(lower.diagonal()).sum())
    slope = inverse - np.outer(weights, weights)  # by an element and the one across the diagonal
    slope[np.diag_indices(n)] *= 0.5
    slopes = slope.ravel()[pairs]
    gradient = np.empty_like(logs)
    gradient[:-2] = scales * (squared @ (slopes * (-5.0 / 6.0 * variance) * (1.0 + r) * decay))
    gradient[-2] = variance * float(slopes @ matern)
    gradient[-1] = noise * float(slope.trace())
    return value, gradient


def _trend_part(trend: Array | None, targets: Array) -> tuple[Array, Array]:
    """Covariance from uncertain trend weights, and targets less the trend of equal shares."""
    n = len(targets)
    if trend is None or not trend.shape[1]:
        return np.zeros((n, n)), targets
    return trend_covariance(trend, trend), targets - trend.mean(axis=1)
