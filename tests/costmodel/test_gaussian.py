"""The Gaussian process on its pool: as the textbook's formula says, however trials come."""

from __future__ import annotations

import numpy as np
import pytest

from fettle.costmodel import gaussian
from fettle.costmodel.covariance import Hyperparameters
from fettle.costmodel.gaussian import GaussianProcess

HYPER = Hyperparameters(np.array([3.0, 0.5, 8.0]), 1.3, 0.02)
RNG = np.random.default_rng(0)
PLACES, POOL = RNG.random((40, 3)), RNG.random((300, 3))
TARGETS = np.sin(5.0 * PLACES[:, 0]) + PLACES[:, 2]


def matern(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    r = np.sqrt((((one[:, None] - two) ** 2) * HYPER.scales).sum(axis=2))
    return HYPER.variance * (1.0 + np.sqrt(5.0) * r + 5.0 / 3.0 * r * r) * np.exp(-np.sqrt(5.0) * r)


def posterior(places: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance at the pool (Rasmussen and Williams, 2006, eq. 2.25 and 2.26)."""
    inverse = np.linalg.inv(matern(places, places) + HYPER.noise * np.eye(len(places)))
    across = matern(places, POOL)
    return across.T @ inverse @ targets, HYPER.variance - np.einsum("tp,ts,sp->p", across, inverse, across)


@pytest.mark.parametrize("batches", [[40], [1] * 40, [8, 30, 1, 1]])
@pytest.mark.parametrize("block", [64, 1 << 20])
def test_means_and_variances_are_the_posterior(batches: list[int], block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaussian, "_BLOCK", block)
    process = GaussianProcess(HYPER, POOL)
    for batch in batches:
        process.extend(PLACES[process.trials : process.trials + batch])
    mean, variance = posterior(PLACES, TARGETS)
    assert process.mean(TARGETS) == pytest.approx(mean, abs=1e-4)
    assert process.variance == pytest.approx(variance, abs=1e-4)


def test_pretended_trials_leave_less_variance_and_the_same_mean() -> None:
    process = GaussianProcess(HYPER, POOL)
    process.extend(PLACES)
    before = process.variance.copy()
    pretended = process.pretend(7).pretend(120).pretend(11)
    _, variance = posterior(np.concatenate([PLACES, POOL[[7, 120, 11]]]), np.zeros(43))
    assert pretended.variance == pytest.approx(variance, abs=1e-4)
    assert (pretended.mean(TARGETS) == process.mean(TARGETS)).all()
    assert (process.variance == before).all()


def test_sources_are_believed_in_equal_shares_until_trials_say_otherwise() -> None:
    """As if the trend's weights and the offset were integrated out (ibid., 2.7)."""
    trend, pool_trend = RNG.standard_normal((40, 2)), RNG.standard_normal((300, 2))
    targets = TARGETS + 1.5 * trend[:, 0] + 4.0
    process = GaussianProcess(HYPER, POOL, pool_trend)
    assert process.mean(np.empty(0)) == pytest.approx(pool_trend.mean(axis=1))
    process.extend(PLACES, trend)
    inverse = np.linalg.inv(matern(PLACES, PLACES) + 0.25 * trend @ trend.T + 1.0 + HYPER.noise * np.eye(40))
    across = matern(PLACES, POOL) + 0.25 * trend @ pool_trend.T + 1.0
    expected = pool_trend.mean(axis=1) + across.T @ inverse @ (targets - trend.mean(axis=1))
    before = HYPER.variance + 0.25 * (pool_trend**2).sum(axis=1) + 1.0
    assert process.mean(targets) == pytest.approx(expected, abs=1e-3)
    assert process.variance == pytest.approx(before - np.einsum("tp,ts,sp->p", across, inverse, across), abs=1e-3)
