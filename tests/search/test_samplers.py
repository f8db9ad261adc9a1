"""Samplers propose valid points, each once."""

from __future__ import annotations

import pytest

from fettle.backends.spaces import Points, enumerate_space
from fettle.search.samplers import Observation, OptunaTpeSampler, RandomSampler, Sampler
from tests.search.synthetic import DEVICE, SyntheticBackend, workload


def points(small: bool = False) -> Points:
    return enumerate_space(SyntheticBackend(small=small).space(workload(), DEVICE))


@pytest.mark.parametrize("kind", [RandomSampler, OptunaTpeSampler])
def test_a_sampler_visits_every_point_of_a_small_space_exactly_once(kind: type[Sampler]) -> None:
    space = points(small=True)
    sampler = kind(space, 0)
    seen: list[int] = []
    while proposed := sampler.propose(4):
        seen += proposed
        sampler.tell([Observation(i, float(i % 7)) for i in proposed])
    assert sorted(seen) == list(range(27))


@pytest.mark.parametrize("kind", [RandomSampler, OptunaTpeSampler])
def test_proposals_depend_only_on_the_seed_and_what_was_told(kind: type[Sampler]) -> None:
    told = [Observation(i * 37, float(i)) for i in range(20)]
    asked_often, asked_once = kind(points(), 3), kind(points(), 3)
    for start in range(0, 20, 4):
        asked_often.propose(3)
        asked_often.tell(told[start : start + 4])
    asked_once.tell(told)
    assert asked_often.propose(8) == asked_once.propose(8)
    assert kind(points(), 4).propose(8) != kind(points(), 3).propose(8)


def test_tpe_learns_from_failures_and_good_points() -> None:
    space = points()
    sampler = OptunaTpeSampler(space, 0)
    sample = range(0, len(space), len(space) // 60)
    sampler.tell([Observation(i, 0.0 if space[i]["algorithm"] == "lut" else float("inf")) for i in sample])
    proposed = sampler.propose(16)
    assert sum(space[i]["algorithm"] == "lut" for i in proposed) > 8
