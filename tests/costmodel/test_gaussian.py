"""The Gaussian process on its pool: as the textbook's formula says, however trials come."""

from __future__ import annotations

import numpy as np
import pytest

from fettle.costmodel import gaussian
from fettle.costmodel.gaussian import GaussianProcess, Hyperparameters

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
