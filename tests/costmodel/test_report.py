"""The report judges on unseen trials; intervals hold what they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fettle.costmodel import files
from fettle.costmodel.conformal import quantile
from fettle.costmodel.model import CostModel
from fettle.costmodel.report import feature_matrix, judge
from fettle.graph.errors import DataLoss
from tests.costmodel.test_model import problem

NAMES = tuple("abcdefgh")


def test_a_learnable_problem_is_judged_well_and_covered() -> None:
    x, y = problem(300, 0)
    quality = judge(NAMES, x, y)
    assert quality is not None
    assert (quality.trained_on, quality.judged_on) == (64, 236)
    assert quality.spearman is not None
    assert quality.spearman > 0.85
    assert 0.85 <= quality.coverage <= 0.97
    assert quality.top5_regret <= quality.top1_regret


def test_noise_cannot_be_ranked_but_is_covered() -> None:
    rng = np.random.default_rng(0)
    quality = judge(
        NAMES[:4], rng.uniform(size=(300, 4)), rng.standard_t(3, 300)
    )  # heavy tails: not what the model assumes
    assert quality is not None
    assert abs(quality.spearman or 0.0) < 0.3
    assert 0.85 <= quality.coverage <= 0.97


def test_too_few_trials_are_not_judged() -> None:
    x, y = problem(23, 0)
    assert judge(NAMES, x, y) is None
    assert judge(NAMES, x[:1].repeat(40, axis=0), np.zeros(40)) is None


@pytest.mark.parametrize(
    ("count", "coverage", "rank"), [(9, 0.9, 9), (19, 0.9, 18), (99, 0.5, 50), (8, 0.9, None), (0, 0.5, None)]
)
def test_the_conformal_quantile_is_an_order_statistic(count: int, coverage: float, rank: int | None) -> None:
    scores = np.random.default_rng(0).permutation(np.arange(1.0, count + 1.0))
    assert quantile(scores, coverage) == (math.inf if rank is None else rank)


@pytest.mark.parametrize("rows", [60, 330])
def test_a_stored_model_predicts_the_same(rows: int) -> None:
    x, y = problem(rows, 1)
    x[0, 3] = np.nan
    model = CostModel()
    model.fit(x, y)
    back, found = files.loads(files.dumps(model, NAMES))
    assert found == NAMES
    np.testing.assert_array_equal(back.predict(x).mean, model.predict(x).mean)
    np.testing.assert_array_equal(back.predict(x).std, model.predict(x).std)
    assert back.width() == model.width()
    assert b"pickle" not in files.dumps(model, NAMES)


@pytest.mark.parametrize("data", [b"", b"n", b"garbage", files.codec.encode({"version": 99}), b"\x80\x04N."])
def test_what_is_no_model_is_refused(data: bytes) -> None:
    with pytest.raises(DataLoss):
        files.loads(data)


def test_trials_with_different_features_share_a_matrix() -> None:
    names, matrix = feature_matrix([{"b": 2.0, "a": 1.0}, {"c": 3.0, "a": 4.0}])
    assert names == ("a", "b", "c")
    np.testing.assert_array_equal(matrix, [[1.0, 2.0, np.nan], [4.0, np.nan, 3.0]])
