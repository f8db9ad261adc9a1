"""Ten measurements on a new device say which known devices it is like."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from fettle.costmodel.newdevice import KnownDevices, predict_alone


def devices(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, log(time) on two known devices, and on a new one that is between them, slower, and a bit its own."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(size=(800, 5))
    one = 3.0 * np.sin(3.0 * x[:, 0]) + 2.0 * x[:, 1] + rng.standard_normal(800)  # also what no column shows
    two = 3.0 * np.cos(4.0 * x[:, 2]) - 2.0 * x[:, 1] + rng.standard_normal(800)
    new = 5.0 + 0.6 * one + 0.4 * two + 0.3 * x[:, 3]
    return x, np.stack([one, two], axis=1), new


def rank(predicted: np.ndarray, new: np.ndarray, references: list[int]) -> float:
    rest = np.setdiff1d(np.arange(len(new)), references)
    return float(stats.spearmanr(predicted[rest], new[rest]).statistic)


def test_ten_references_rank_better_than_any_known_device_and_than_themselves_alone() -> None:
    x, known, new = devices()
    model = KnownDevices(x, known)
    references = model.choose_references(np.random.default_rng(1))
    assert len(set(references)) == 10
    ours = rank(model.predict(references, new[references]), new, references)
    alone = rank(predict_alone(x, references, new[references]), new, references)
    assert ours > max(rank(column, new, references) for column in known.T) + 0.1
    assert ours > alone + 0.1


def test_a_known_device_that_is_nothing_like_the_new_one_does_no_harm() -> None:
    x, known, _ = devices()
    new = 2.0 * known[:, 0] + 0.3 * x[:, 3]
    model = KnownDevices(x, known)
    references = model.choose_references(np.random.default_rng(0))
    assert rank(known[:, 1], new, references) < 0.2
    assert rank(model.predict(references, new[references]), new, references) > 0.9


def test_the_new_device_may_side_with_one_known_device_here_and_with_another_there() -> None:
    x, known, _ = devices()
    new = np.where(x[:, 4] < 0.5, known[:, 0], known[:, 1])
    model = KnownDevices(x, known)
    references = model.choose_references(np.random.default_rng(0), 24)
    ours = rank(model.predict(references, new[references]), new, references)
    mean = rank(known.mean(axis=1), new, references)
    assert ours > mean + 0.05


def test_the_offset_of_the_new_device_is_learned() -> None:
    x, known, new = devices()
    model = KnownDevices(x, known)
    references = model.choose_references(np.random.default_rng(2))
    assert abs(float(np.mean(model.predict(references, new[references]) - new))) < 0.5


def test_points_that_failed_on_a_known_device_are_predicted_but_are_no_references() -> None:
    x, known, new = devices()
    broken = known.copy()
    broken[::3, 0] = np.inf
    model = KnownDevices(x, broken)
    references = model.choose_references(np.random.default_rng(0))
    assert all(at % 3 for at in references)
    failed = np.arange(0, len(x), 3)
    predicted = model.predict(references, new[references])
    assert stats.spearmanr(predicted[failed], new[failed]).statistic > 0.5


def test_the_same_seed_chooses_the_same_references() -> None:
    x, known, _ = devices()
    model = KnownDevices(x, known)
    first = model.choose_references(np.random.default_rng(3))
    assert first == model.choose_references(np.random.default_rng(3))


def test_too_little_knowledge_is_refused() -> None:
    x, known, _ = devices()
    for predict in (KnownDevices(x, known).predict, lambda *given: predict_alone(x, *given)):
        with pytest.raises(ValueError, match="reference"):
            predict([1], np.zeros(1))
        with pytest.raises(ValueError, match="reference"):
            predict([1, 2], np.zeros(2))
    with pytest.raises(ValueError, match="no device"):
        KnownDevices(x, known[:, :0])
    with pytest.raises(ValueError, match="too few"):
        KnownDevices(x, np.full((len(x), 1), 2.0))


def test_a_device_that_is_nearly_a_known_one_is_ranked_nearly_as_that_one_is() -> None:
    """Ten measurements say little beside times of nearly the same device: its many small differences stay."""
    x, known, _ = devices()
    rng = np.random.default_rng(5)
    new = 1.0 + known[:, 1] + 0.15 * rng.standard_normal(len(x))
    model = KnownDevices(x, known)
    ours = []
    for seed in range(3):
        references = model.choose_references(np.random.default_rng(seed))
        ours.append(rank(model.predict(references, new[references]), new, references))
    assert np.mean(ours) > rank(known[:, 1], new, []) - 0.003


def test_two_recordings_of_one_device_are_as_good_as_one() -> None:
    """What each has beyond the other is nothing, of which nothing can be learned."""
    x, known, new = devices()
    model = KnownDevices(x, known[:, [0, 0]])
    references = model.choose_references(np.random.default_rng(0))
    predicted = model.predict(references, new[references])
    assert np.isfinite(predicted).all()
    assert rank(predicted, new, references) > rank(known[:, 0], new, references)


def test_ten_are_chosen_though_the_known_devices_tried_different_points() -> None:
    x, known, new = devices()
    tried = np.full_like(known, np.nan)
    tried[:200, 0], tried[197:400, 1] = known[:200, 0], known[197:400, 1]
    model = KnownDevices(x, tried)
    references = model.choose_references(np.random.default_rng(0))
    assert len(set(references)) == 10
    assert all(at < 400 for at in references)
    assert rank(model.predict(references, new[references]), new, references) > 0.5
