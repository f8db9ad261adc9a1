"""Predictions of a search's own trials are judged in the order in which they were made."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from fettle.costmodel.foresight import Foresight


def test_figures_are_those_of_the_predictions() -> None:
    rng = np.random.default_rng(0)
    actual = rng.normal(size=40)
    predicted = actual + rng.normal(size=40)
    found = Foresight.of(predicted, np.ones(40), actual)
    assert found.spearman == pytest.approx(stats.spearmanr(predicted, actual).statistic)
    pairs = [(predicted[i] - predicted[j]) * (actual[i] - actual[j]) > 0 for i in range(40) for j in range(i)]
    assert found.pairwise == pytest.approx(np.mean(pairs))
    best = actual[np.argsort(predicted)]
    assert found.top1_regret == pytest.approx(np.exp(best[0] - actual.min()) - 1.0)
    assert found.top5_regret == pytest.approx(np.exp(best[:5].min() - actual.min()) - 1.0)


@pytest.mark.parametrize("factor", [0.01, 1.0, 30.0])
def test_intervals_are_calibrated_on_the_trials_before(factor: float) -> None:
    rng = np.random.default_rng(1)
    std = rng.uniform(0.5, 2.0, 1000)
    actual = std * rng.standard_t(3, 1000)
    coverage = Foresight.of(np.zeros(1000), factor * std, actual).coverage
    assert coverage == pytest.approx(0.9, abs=0.03)


def test_intervals_know_nothing_of_what_comes() -> None:
    errors = np.array([0.1] * 10 + [5.0])
    assert Foresight.of(np.zeros(11), np.ones(11), errors).coverage == pytest.approx(0.5)  # the 10th in, the 11th out


def test_what_cannot_be_said_of_few_trials_is_none() -> None:
    assert Foresight.of(np.empty(0), np.empty(0), np.empty(0)) == Foresight()
    two = Foresight.of(np.array([1.0, 2.0]), np.ones(2), np.array([1.0, 3.0]))
    assert (two.spearman, two.pairwise, two.top1_regret, two.top5_regret, two.coverage) == (None, 1.0, 0.0, None, None)
    unknown = np.full(20, np.nan)
    assert Foresight.of(np.arange(20.0), unknown, np.arange(20.0)).coverage is None
