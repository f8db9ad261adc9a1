"""What single columns do."""

from __future__ import annotations

import numpy as np
import pytest

from fettle.costmodel.additive import Effects, column_kernels


def grid() -> np.ndarray:
    """[125, 3], each column 0 … 1 in five steps."""
    steps = np.linspace(0.0, 1.0, 5)
    return np.stack([c.ravel() for c in np.meshgrid(steps, steps, steps)], axis=1)


def test_the_effects_of_a_sum_are_its_terms() -> None:
    x = grid()
    terms = np.stack([2.0 * x[:, 0], np.zeros(len(x)), np.cos(3.0 * x[:, 2])], axis=1)
    terms -= terms.mean(axis=0)
    effects = Effects.of(x, terms.sum(axis=1) + 7.0, np.arange(len(x)))
    assert effects.columns == pytest.approx(terms, abs=0.1)  # shrunk a little
    assert effects.rest == pytest.approx(np.zeros(len(x)), abs=0.1)


def test_what_two_columns_do_together_is_left_over() -> None:
    x = grid()
    together = 16.0 * (x[:, 0] - 0.5) * (x[:, 1] - 0.5)
    effects = Effects.of(x, together, np.arange(len(x)))
    assert np.abs(effects.columns).max() < 0.05
    assert effects.rest == pytest.approx(together, abs=0.1)


def test_effects_and_rest_add_up_to_the_device() -> None:
    x, scores = grid(), np.random.default_rng(0).standard_normal(125)
    effects = Effects.of(x, scores, np.arange(0, 125, 3))
    assert effects.columns.sum(axis=1) + effects.rest + scores.mean() == pytest.approx(scores)


def test_points_that_share_a_value_are_alike_in_that_column_alone() -> None:
    x = np.array([[0.0, 0.0], [0.0, 1.0]])
    first, second = column_kernels(x, x)
    assert first[0, 1] == pytest.approx(1.0)
    assert second[0, 1] < 0.5
