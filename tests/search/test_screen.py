"""The screen: batches are valid, new, diverse, and better than chance."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from fettle.backends.api import Outcome, Schedule
from fettle.backends.spaces import Points, enumerate_space
from fettle.costmodel.features import Featurizer
from fettle.search.samplers import Observation, OptunaTpeSampler, RandomSampler
from fettle.search.screen import Screen, expected_improvement
from tests.search.synthetic import DEFAULT, DEVICE, SyntheticBackend, chance, workload


def setup(backend: SyntheticBackend, seed: int = 0) -> tuple[Points, Screen]:
    points = enumerate_space(backend.space(workload(), DEVICE))
    default = points.index(DEFAULT)
    assert default is not None
    featurizer = Featurizer(backend, workload(), DEVICE, points)
    return points, Screen(points, featurizer, OptunaTpeSampler(points, seed), default, seed)


def measure(backend: SyntheticBackend, points: Points, index: int) -> Observation:
    failed = backend.fails(points[index]) is not None
    return Observation(index, math.inf if failed else math.log(backend.seconds(workload(), points[index])))


def search(backend: SyntheticBackend, seed: int, trials: int) -> list[Observation]:
    points, screen = setup(backend, seed)
    history: list[Observation] = []
    while len(history) < trials:
        history += [measure(backend, points, p.index) for p in screen.next_batch(history, 8)]
    return history


def test_the_first_batch_begins_with_the_default_and_covers_every_algorithm_or_nearly() -> None:
    points, screen = setup(SyntheticBackend())
    batch = screen.next_batch([], 8)
    assert points[batch[0].index] == DEFAULT
    assert len({p.index for p in batch}) == 8
    assert len({points[p.index]["algorithm"] for p in batch}) >= 3
    assert all(p.predicted is None for p in batch)


def test_no_point_is_proposed_twice_and_a_small_space_is_used_up() -> None:
    history = search(SyntheticBackend(small=True), 0, 27)
    assert sorted(o.index for o in history) == list(range(27))
    indices = [o.index for o in search(SyntheticBackend(), 0, 64)]
    assert len(set(indices)) == len(indices) == 64


def test_points_of_a_batch_differ_in_at_least_two_parameters() -> None:
    backend = SyntheticBackend()
    points, screen = setup(backend)
    history = [measure(backend, points, p.index) for p in screen.next_batch([], 8)]
    schedules = [points[p.index].as_dict() for p in screen.next_batch(history, 8)]
    for i, one in enumerate(schedules):
        for two in schedules[:i]:
            assert sum(one[name] != two[name] for name in one) >= 2


def test_a_batch_is_proposed_even_if_everything_failed_so_far() -> None:
    points, screen = setup(SyntheticBackend())
    history = [Observation(p.index, math.inf) for p in screen.next_batch([], 8)]
    batch = screen.next_batch(history, 8)
    assert len({p.index for p in batch} - {o.index for o in history}) == 8
    assert all(p.index < len(points) for p in batch)


def test_the_search_beats_random_at_equal_trials_over_seeds() -> None:
    ours, chances = [], []
    for seed in range(5):

        def fails(schedule: Schedule, seed: int = seed) -> Outcome | None:
            return Outcome.CRASH if chance(seed, schedule["algorithm"], schedule["unroll"]) < 0.1 else None

        backend = SyntheticBackend(variant=seed, fails=fails if seed % 2 else lambda schedule: None)
        points = enumerate_space(backend.space(workload(), DEVICE))
        ours.append(min(o.value for o in search(backend, seed, 48)))
        drawn = RandomSampler(points, seed).propose(48)
        chances.append(min(measure(backend, points, i).value for i in drawn))
    assert np.mean(ours) < np.mean(chances) - math.log(1.1)  # at least 10 % faster kernels in the mean


def test_expected_improvement_is_the_mean_of_the_improvement() -> None:
    mean, std = np.array([0.0, 1.0, -1.0]), np.array([1.0, 0.5, 0.1])
    drawn = stats.norm.ppf((np.arange(200_000) + 0.5) / 200_000)
    expected = [np.maximum(0.2 - (m + s * drawn), 0.0).mean() for m, s in zip(mean, std, strict=True)]
    assert expected_improvement(mean, std, 0.2) == pytest.approx(expected, abs=1e-4)
