"""Failures: where they have a pattern it is learned, where they have none they hide nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fettle.search.samplers.feasibility import Feasibility
from fettle.search.samplers.surrogate import Places, ProcessSurrogate

GRID = np.stack(np.meshgrid(np.linspace(0.0, 1.0, 12), np.linspace(0.0, 1.0, 12)), axis=-1).reshape(-1, 2)
TRIED = np.random.default_rng(0).permutation(len(GRID))[:49]


def places(rows: np.ndarray) -> Places:
    return Places(GRID[rows], np.empty((len(rows), 0)))


def chances(failed: np.ndarray) -> np.ndarray:
    """Of every point of the grid to work, after the trials."""
    return np.broadcast_to(Feasibility(GRID[TRIED[:48]], failed, GRID).probability(), len(GRID))


def test_before_the_first_failure_everything_works() -> None:
    assert (chances(np.zeros(48, np.bool_)) == 1.0).all()


def test_half_a_space_that_fails_is_told_from_the_other() -> None:
    found = chances(GRID[TRIED[:48], 0] > 0.5)
    assert found[GRID[:, 0] < 0.4].min() > 0.8
    assert found[GRID[:, 0] > 0.6].max() < 0.2


@pytest.mark.parametrize("seed", range(4))
def test_failures_without_a_pattern_make_no_point_likely_to_fail(seed: int) -> None:
    found = chances(np.random.default_rng(seed).permutation(48) < 8)
    assert found.min() > 0.5
    assert found.mean() == pytest.approx(40 / 48, abs=0.1)


def test_nothing_is_given_up_though_everything_failed() -> None:
    assert (chances(np.ones(48, np.bool_)) > 0.0).all()


def test_a_first_failure_counts_as_soon_as_it_is_known() -> None:
    model = Feasibility(GRID[TRIED[:20]], np.zeros(20, np.bool_), GRID)
    model.add(GRID[TRIED[20:21]], np.array([True]))
    at_once = model.probability()
    assert isinstance(at_once, np.ndarray)
    assert at_once[TRIED[20]] < at_once.max()
    assert (at_once == Feasibility(GRID[TRIED[:21]], np.arange(21) == 20, GRID).probability()).all()


def test_failed_trials_change_nothing_of_the_times_that_are_expected() -> None:
    times = np.array([math.log(1.0 + x + y) for x, y in GRID[TRIED[:24]]])
    alone = ProcessSurrogate(places(TRIED[:24]), times, places(np.arange(len(GRID))))
    mixed = np.concatenate([times[:12], np.full(24, math.inf), times[12:]])
    where = np.concatenate([TRIED[:12], TRIED[24:48], TRIED[12:24]])
    beside = ProcessSurrogate(places(where), mixed, places(np.arange(len(GRID))))
    beside.add(places(TRIED[48:]), np.array([math.inf]))
    assert beside.predict(np.append(mixed, math.inf)).mean == pytest.approx(alone.predict(times).mean)
