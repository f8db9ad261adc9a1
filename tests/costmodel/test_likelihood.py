"""How hyperparameters are learned."""

from __future__ import annotations

import numpy as np
import pytest

from fettle.costmodel.likelihood import negative_log_likelihood

PLACES = np.random.default_rng(0).random((40, 3))
TARGETS = np.sin(5.0 * PLACES[:, 0]) + PLACES[:, 2]


def test_the_gradient_of_the_likelihood_is_that_of_differences() -> None:
    rows, others = np.tril_indices(40)
    squared = np.stack([(c[rows] - c[others]) ** 2 for c in PLACES.T])
    pairs, fixed = 40 * rows + others, np.full(len(rows), 0.3)
    logs = np.log([3.0, 0.5, 8.0, 1.3, 0.02])

    def value(at: np.ndarray) -> float:
        return negative_log_likelihood(at, pairs, squared, fixed, TARGETS)[0]

    steps = 1e-5 * np.eye(5)
    _, gradient = negative_log_likelihood(logs, pairs, squared, fixed, TARGETS)
    assert gradient == pytest.approx([(value(logs + s) - value(logs - s)) / 2e-5 for s in steps], rel=1e-4)
