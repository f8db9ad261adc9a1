"""Metrics against scipy, and against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fettle.costmodel.metrics import pairwise_accuracy, ranks, spearman, top_k_regret

VECTORS = st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=3, max_size=30)


@given(VECTORS)
def test_spearman_is_that_of_scipy(pairs: list[tuple[int, int]]) -> None:
    predicted, actual = zip(*pairs, strict=True)
    ours = spearman(predicted, actual)
    if len(set(predicted)) == 1 or len(set(actual)) == 1:
        assert ours is None
    else:
        assert ours == pytest.approx(stats.spearmanr(predicted, actual).statistic, abs=1e-12)


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=30))
def test_ranks_are_those_of_scipy(values: list[int]) -> None:
    np.testing.assert_array_equal(ranks(values), stats.rankdata(values))


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=20, unique=True), st.randoms())
def test_pairwise_accuracy_is_a_shifted_kendall_tau_without_ties(actual: list[float], random: object) -> None:
    predicted = list(range(len(actual)))
    random.shuffle(predicted)  # type: ignore[attr-defined]
    tau = stats.kendalltau(predicted, actual).statistic
    assert pairwise_accuracy(predicted, actual) == pytest.approx((tau + 1) / 2, abs=1e-9)


def test_a_constant_prediction_orders_half_of_the_pairs_and_equal_results_order_none() -> None:
    assert pairwise_accuracy([1, 1, 1], [3, 2, 1]) == 0.5
    assert pairwise_accuracy([1, 2, 3], [1, 1, 1]) is None


def test_top_k_regret_is_the_slowdown_of_the_best_of_the_most_promising() -> None:
    times = [2.0, 1.0, 1.5, 8.0]
    predicted = [0.1, 0.9, 0.2, 0.3]
    logs = [math.log(t) for t in times]
    assert top_k_regret(predicted, logs, 1) == pytest.approx(1.0)
    assert top_k_regret(predicted, logs, 2) == pytest.approx(0.5)
    assert top_k_regret(predicted, logs, 4) == pytest.approx(0.0)
    with pytest.raises(ValueError, match="top-5 of 4"):
        top_k_regret(predicted, logs, 5)
