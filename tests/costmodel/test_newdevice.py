"""Ten measurements on a new device say which known devices it is like."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from fettle.costmodel.newdevice import choose_references, predict_device


def devices(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, log(time) on two known devices, and on a new one that is between them, slower, and a bit its own."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(size=(800, 5))
    one = 3.0 * np.sin(3.0 * x[:, 0]) + 2.0 * x[:, 1] + rng.standard_normal(800)  # also what no column shows
    two = 3.0 * np.cos(4.0 * x[:, 2]) - 2.0 * x[:, 1] + rng.standard_normal(800)
    new = 5.0 + 0.6 * one + 0.4 * two + 0.3 * x[:, 3]
    return x, np.stack([one, two], axis=1), new


def test_ten_references_rank_better_than_any_known_device_and_than_themselves_alone() -> None:
    x, known, new = devices()
    references = choose_references(known, np.random.default_rng(1))
    assert len(set(references)) == 10
    rest = np.setdiff1d(np.arange(len(x)), references)

    def rank(predicted: np.ndarray) -> float:
        return float(stats.spearmanr(predicted[rest], new[rest]).statistic)

    ours = rank(predict_device(x, known, references, new[references]))
    alone = rank(predict_device(x, known[:, :0], references, new[references]))
    assert ours > max(rank(column) for column in known.T) + 0.1
    assert ours > alone + 0.1


def test_the_offset_of_the_new_device_is_learned() -> None:
    x, known, new = devices()
    references = choose_references(known, np.random.default_rng(2))
    predicted = predict_device(x, known, references, new[references])
    assert abs(float(np.mean(predicted - new))) < 0.5


def test_references_run_from_fast_to_slow() -> None:
    _, known, _ = devices()
    mean = known.mean(axis=1)
    chosen = mean[choose_references(known, np.random.default_rng(0))]
    assert chosen.min() < np.quantile(mean, 0.2)
    assert chosen.max() > np.quantile(mean, 0.8)


def test_too_few_or_equal_references_are_refused() -> None:
    x, known, new = devices()
    with pytest.raises(ValueError, match="reference"):
        predict_device(x, known, [1], new[[1]])
    with pytest.raises(ValueError, match="reference"):
        predict_device(x, known, [1, 2], np.zeros(2))
