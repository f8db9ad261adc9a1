"""The cost model learns order and knows what it does not know."""

from __future__ import annotations

import numpy as np
import pytest
import threadpoolctl
from scipy import stats

from fettle.costmodel import model as module
from fettle.costmodel.model import CostModel, single_threaded


def problem(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.uniform(-2, 2, (rows, 8))
    y = (x[:, 0] - 0.5) ** 2 + 0.8 * np.abs(x[:, 1]) + 0.5 * x[:, 2] * (x[:, 3] > 0) + 0.05 * rng.standard_normal(rows)
    return x, y


@pytest.mark.parametrize(("rows", "least"), [(64, 0.85), (200, 0.85)])
def test_predictions_rank_unseen_rows(rows: int, least: float) -> None:
    x, y = problem(rows, 0)
    unseen, truth = problem(300, 1)
    model = CostModel()
    assert model.fit(x, y)
    assert stats.spearmanr(model.predict(unseen).mean, truth).statistic > least


@pytest.mark.parametrize("rows", [40, 200])
def test_equal_data_and_seed_give_equal_predictions(rows: int) -> None:
    x, y = problem(rows, 2)
    first, second = CostModel(5), CostModel(5)
    first.fit(*problem(30, 3))  # an earlier fit leaves no trace
    first.fit(x, y)
    second.fit(x, y)
    np.testing.assert_array_equal(first.predict(x).mean, second.predict(x).mean)
    np.testing.assert_array_equal(first.predict(x).std, second.predict(x).std)


def test_a_gaussian_process_is_used_below_the_threshold_and_trees_above() -> None:
    x, y = problem(30, 0)
    model = CostModel(gaussian_process_below=30)
    model.fit(x[:29], y[:29])
    assert isinstance(model.fitted, module.ProcessFit)
    model.fit(x, y)
    assert isinstance(model.fitted, module.BoostedTrees)


def test_uncertainty_grows_away_from_the_data_and_for_a_choice_never_tried() -> None:
    x, y = problem(60, 4)
    x[:, 7] = 0.0  # a one-hot column of an algorithm that was never measured
    model = CostModel()
    model.fit(x, y)
    far, untried = x[:1] + 10.0, x[:1].copy()
    untried[:, 7] = 1.0
    near = model.predict(x[:1]).std[0]
    assert model.predict(far).std[0] > 2 * near
    assert model.predict(untried).std[0] > near


@pytest.mark.parametrize("rows", [60, 200])
def test_failures_are_learned_as_slow(rows: int) -> None:
    x, y = problem(rows, 5)
    y = np.where(x[:, 4] > 0.0, np.inf, y)
    model = CostModel()
    model.fit(x, y)
    unseen, _ = problem(200, 6)
    mean = model.predict(unseen).mean
    assert mean[unseen[:, 4] > 0.3].mean() > mean[unseen[:, 4] < -0.3].mean() + 0.5


@pytest.mark.parametrize("rows", [60, 200])
def test_missing_features_are_accepted(rows: int) -> None:
    x, y = problem(rows, 7)
    x[::3, 5] = np.nan
    x[:, 6] = np.nan
    model = CostModel()
    model.fit(x, y)
    assert np.isfinite(model.predict(x).mean).all()


def test_too_little_to_learn_from_is_said() -> None:
    x, y = problem(10, 8)
    model = CostModel()
    assert not model.fit(x, np.full(10, np.inf))
    assert not model.fit(x, np.zeros(10))
    assert not model.fit(x[:1], y[:1])
    with pytest.raises(ValueError, match="not been fitted"):
        model.predict(x)


def test_fits_run_on_one_thread() -> None:
    with single_threaded():
        assert {pool["num_threads"] for pool in threadpoolctl.threadpool_info()} == {1}
