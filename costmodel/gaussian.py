"""A Gaussian process on arrays: learned once for a batch of trials, then extended trial by trial.

The prior is ``f ~ GP(trend · weights, variance · Matérn-5/2(r))`` with ``r² = Σ scale_c (x_c - x'_c)²``, one scale a
column (Rasmussen and Williams, 2006, ch. 2, 4.2 and 5.4). ``trend`` columns are predictions that come from elsewhere
(other devices, other shapes); their weights are Gaussian too, so the first trials correct the offset and how much each
source is believed (ibid., 2.7). Hyperparameters maximise the likelihood times weak log-normal priors, which keep the
scales of a few trials near each other.
"""

from __future__ import annotations

import copy
import math
from typing import TypeVar

import attrs
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Single = NDArray[np.float32]
Real = TypeVar("Real", Array, Single)

_ROOT5 = math.sqrt(5.0)
_JITTER = 1e-6
"""Added to the noise: rounding must leave covariances positive definite."""

_STEPS = 25
"""Of L-BFGS, at most."""

_SCALE_BOUNDS, _VARIANCE_BOUNDS, _NOISE_BOUNDS = (-8.0, 6.0), (-3.0, 4.0), (-9.0, 1.0)
"""Of the logarithms of hyperparameters."""

_SCALE_DEVIATION, _VARIANCE_DEVIATION, _NOISE_DEVIATION = 1.5, 1.0, 1.5
"""Standard deviations of the log-normal priors, whose medians are :meth:`Hyperparameters.initial`."""

_START_NOISE = 0.01
_TREND_DEVIATION = 0.5
"""How far the weight of one source is from an equal share, a priori."""

_OFFSET_DEVIATION = 1.0
"""How far targets are, a priori, from what the sources expect, in their standard deviations."""

_SMALLEST_VARIANCE = 1e-9
_ROOM = 16
"""Rows allocated ahead for trials to come."""

_BLOCK = 1 << 17
"""Covariances that are computed at a time: temporaries of that size stay in the cache."""


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
        return _matern(a, b, (b * b).sum(axis=1), self.variance)


def _matern(one: Real, two: Real, two_squared: Real, variance: float) -> Real:
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
    distance *= _ROOT5
    squared *= 5.0 / 3.0
    squared += distance
    squared += 1.0
    np.negative(distance, out=distance)
    np.exp(distance, out=distance)
    distance *= squared
    distance *= variance
    return distance


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
        value, gradient = _negative_log_likelihood(logs, pairs, squared, fixed, centred)
        away = (logs - start) / deviation
        return value + 0.5 * float(away @ away), gradient + away / deviation

    bounds = [_SCALE_BOUNDS] * columns + [_VARIANCE_BOUNDS, _NOISE_BOUNDS]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": _STEPS})
    scales, (variance, noise) = np.exp(found.x[:-2]), np.exp(found.x[-2:])
    return Hyperparameters(scales, float(variance), float(noise))


def _negative_log_likelihood(
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
    r = _ROOT5 * np.sqrt(r2)
    decay = np.exp(-r)
    matern = (1.0 + r + 5.0 / 3.0 * r2) * decay
    covariance = np.zeros((n, n))
    covariance.ravel()[pairs] = variance * matern + fixed
    covariance[np.diag_indices(n)] += noise + _JITTER
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
    return _trend_covariance(trend, trend), targets - trend.mean(axis=1)


class GaussianProcess:
    """The process after some trials, seen at a fixed set of points (the pool).

    :meth:`extend` costs O(trials · pool): the factor and the whitened covariances get one row more. Targets come in
    only when asked for means, so trials may be pretended. What belongs to the pool is in single precision, which tells
    points apart as well and takes half the time and memory; the factor of the trials is in double.

    Args:
        pool: [points, columns], where predictions are wanted.
        trend: [points, sources] there.
    """

    def __init__(self, hyper: Hyperparameters, pool: Array, trend: Array | None = None) -> None:
        self.hyper = hyper
        self._pool = pool
        self._places: Single = hyper.scaled(pool).astype(np.float32)
        self._squared: Single = np.einsum("pc,pc->p", self._places, self._places)
        self._trend = np.empty((len(pool), 0)) if trend is None else trend
        self._x = np.empty((0, pool.shape[1]))
        self._t = np.empty((0, self._trend.shape[1]))
        self._lower = np.empty((0, 0))
        self._whitened: Single = np.empty((_ROOM, len(pool)), np.float32)
        self._pretended: tuple[Array, ...] = ()
        self.variance: Array = hyper.variance + _trend_variance(self._trend)
        """[points] of the function (without noise) at the pool."""

    @property
    def trials(self) -> int:
        """How many there are."""
        return len(self._x)

    def extend(self, features: Array, trend: Array | None = None) -> None:
        """Add trials (their places; see :meth:`mean` for their targets), [trials, columns] and [trials, sources]."""
        from scipy.linalg import solve_triangular
        from scipy.linalg.blas import strsm

        known, more = len(self._x), len(features)
        t = np.empty((more, 0)) if trend is None else trend
        left = np.empty((more, 0))
        if known:
            across = self._covariance(self._x, self._t, features, t)
            left = solve_triangular(self._lower, across, lower=True, check_finite=False).T
        own = self._covariance(features, t, features, t)
        own[np.diag_indices(more)] += self.hyper.noise + _JITTER
        corner = np.linalg.cholesky(own - left @ left.T)
        self._grow(known + more)
        single_left, single_corner = left.astype(np.float32), corner.astype(np.float32, order="F")
        width = max(_BLOCK // more, 1)
        for block in (slice(at, at + width) for at in range(0, len(self._pool), width)):
            seen = self._seen(features, t, block)
            seen -= single_left @ self._whitened[:known, block]
            # the transposed system, since BLAS solves it where it stands
            rows = strsm(1.0, single_corner, seen.T, side=1, lower=1, trans_a=1, overwrite_b=1).T
            self._whitened[known : known + more, block] = rows
            left_over = self.variance[block] - np.einsum("tp,tp->p", rows, rows)
            self.variance[block] = np.maximum(left_over, _SMALLEST_VARIANCE)
        self._lower = np.block([[self._lower, np.zeros((known, more))], [left, corner]])
        self._x, self._t = np.concatenate([self._x, features]), np.concatenate([self._t, t])

    def pretend(self, at: int) -> GaussianProcess:
        """This one after a trial at a point of the pool whose target is not known: only the variance is less. It
        shares what it knows with this one, so neither may be extended while the other is in use."""
        n = self.trials
        row = self._seen(self._pool[[at]], self._trend[[at]], slice(None))[0].astype(np.float64)
        row -= self._whitened[:n, at] @ self._whitened[:n]
        row -= sum((earlier[at] * earlier for earlier in self._pretended), np.zeros(len(row)))
        row /= math.sqrt(self.variance[at] + self.hyper.noise + _JITTER)
        other = copy.copy(self)
        other._pretended = (*self._pretended, row)
        other.variance = np.maximum(self.variance - row * row, _SMALLEST_VARIANCE)
        return other

    def mean(self, targets: Array) -> Array:
        """Means at the pool, given the targets of the first ``len(targets)`` trials."""
        from scipy.linalg import solve_triangular

        n = len(targets)
        base, centred = np.zeros(len(self._pool)), targets
        if self._trend.shape[1]:
            base, centred = self._trend.mean(axis=1), targets - self._t[:n].mean(axis=1)
        weights = solve_triangular(self._lower[:n, :n], centred, lower=True, check_finite=False)
        return np.asarray(base + weights.astype(np.float32) @ self._whitened[:n], np.float64)

    def _covariance(self, one: Array, one_trend: Array, two: Array, two_trend: Array) -> Array:
        matern = self.hyper.kernel(one, two)
        return matern + _trend_covariance(one_trend, two_trend) if self._trend.shape[1] else matern

    def _seen(self, features: Array, trend: Array, block: slice) -> Single:
        """Prior covariance of places with a block of the pool."""
        scaled = self.hyper.scaled(features).astype(np.float32)
        covariance = _matern(scaled, self._places[block], self._squared[block], self.hyper.variance)
        if self._trend.shape[1]:
            covariance += _trend_covariance(trend, self._trend[block]).astype(np.float32)
        return covariance

    def _grow(self, need: int) -> None:
        """Room for so many trials."""
        if need > len(self._whitened):
            grown = np.empty((need + _ROOM, len(self._pool)), np.float32)
            grown[: self.trials] = self._whitened[: self.trials]
            self._whitened = grown


def _trend_covariance(one: Array, two: Array) -> Array:
    return np.asarray(_TREND_DEVIATION**2 * (one @ two.T) + _OFFSET_DEVIATION**2, np.float64)


def _trend_variance(trend: Array) -> Array:
    if not trend.shape[1]:
        return np.zeros(len(trend))
    return np.asarray(_TREND_DEVIATION**2 * (trend**2).sum(axis=1) + _OFFSET_DEVIATION**2, np.float64)
