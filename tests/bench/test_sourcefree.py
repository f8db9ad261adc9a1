"""Rivals that know no other device."""

from __future__ import annotations

import numpy as np
import pytest

from fettle.bench.sourcefree import DESIGNS, MODELS, best_alone, correlation, model_means


def space() -> tuple[np.ndarray, np.ndarray]:
    """Features and log(time) of 256 points; every eighth failed."""
    steps = np.linspace(0.0, 1.0, 4)
    x = np.stack([c.ravel() for c in np.meshgrid(steps, steps, steps, steps)], axis=1)
    times = 2.0 * x[:, 0] - x[:, 1]
    times[::8] = np.nan
    return x, times


@pytest.mark.parametrize("name", DESIGNS)
def test_a_design_chooses_different_points_and_its_seed_decides_which(name: str) -> None:
    x, times = space()
    first, again, other = (DESIGNS[name](x, times, 10, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert len(set(first)) == 10
    assert first == again != other


@pytest.mark.parametrize("name", DESIGNS)
def test_a_design_knows_no_time_that_it_did_not_measure(name: str) -> None:
    x, times = space()
    chosen = DESIGNS[name](x, times, 10, np.random.default_rng(0))
    hidden = np.full_like(times, np.nan)
    hidden[chosen] = times[chosen]
    assert DESIGNS[name](x, hidden, 10, np.random.default_rng(0)) == chosen


@pytest.mark.parametrize("name", MODELS)
def test_a_model_ranks_a_plain_space(name: str) -> None:
    x, times = space()
    chosen = np.random.default_rng(0).permutation(len(x))[:24].tolist()
    assert correlation(MODELS[name], x, times, chosen) > 0.7


@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_one_time_predicts_nothing(name: str) -> None:
    x, times = space()
    assert correlation(MODELS[name], x, times, [0, 1]) == 0.0  # the first failed
    assert correlation(MODELS[name], x, np.where(np.isnan(times), times, 1.0), list(range(10))) == 0.0


def test_the_best_pair_is_no_worse_than_any_model_of_random_points() -> None:
    x, times = space()
    best, named = best_alone(x, times, 10, 2)
    chosen = [DESIGNS["random points"](x, times, 10, np.random.default_rng(seed)) for seed in range(2)]
    assert best >= max(model_means(x, times, chosen).values())
    assert [part.strip() in {*DESIGNS, *MODELS} for part in named.split(",")] == [True, True]
