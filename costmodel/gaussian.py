"""A Gaussian process on arrays: learned once for a batch of trials, then extended trial by trial.

Its prior is in :mod:`fettle.costmodel.covariance`; conditioning on trials follows Rasmussen and Williams (2006, ch. 2).
"""

from __future__ import annotations

import copy
import math

import numpy as np

from fettle.costmodel.covariance import (
    JITTER,
    Array,
    Hyperparameters,
    Single,
    matern,
    trend_covariance,
    trend_variance,
)

_SMALLEST_VARIANCE = 1e-9
_ROOM = 16
"""Rows allocated ahead for trials to come."""

_BLOCK = 1 << 17
"""Covariances that are computed at a time: temporaries of that size stay in the cache."""


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
        self.variance: Array = hyper.variance + trend_variance(self._trend)
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
        own[np.diag_indices(more)] += self.hyper.noise + JITTER
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
        row /= math.sqrt(self.variance[at] + self.hyper.noise + JITTER)
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
        return matern + trend_covariance(one_trend, two_trend) if self._trend.shape[1] else matern

    def _seen(self, features: Array, trend: Array, block: slice) -> Single:
        """Prior covariance of places with a block of the pool."""
        scaled = self.hyper.scaled(features).astype(np.float32)
        covariance = matern(scaled, self._places[block], self._squared[block], self.hyper.variance)
        if self._trend.shape[1]:
            covariance += trend_covariance(trend, self._trend[block]).astype(np.float32)
        return covariance

    def _grow(self, need: int) -> None:
        """Room for so many trials."""
        if need > len(self._whitened):
            grown = np.empty((need + _ROOM, len(self._pool)), np.float32)
            grown[: self.trials] = self._whitened[: self.trials]
            self._whitened = grown
