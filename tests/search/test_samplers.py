"""Every sampler proposes valid points, each once, and learns."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fettle.backends.api import Parameter, Space
from fettle.backends.spaces import Points, enumerate_space
from fettle.graph.errors import InvalidArgument, Unsupported
from fettle.search.samplers import SAMPLERS, Observation, Problem, Sampler, make_sampler
from tests.search.synthetic import DEFAULT, DEVICE, SyntheticBackend, workload

FAST = ("guided", "random", "tpe", "nsga2", "evolution", "local")


@pytest.fixture(params=SAMPLERS)
def name(request: pytest.FixtureRequest) -> str:
    """Names of all samplers whose packages are installed."""
    try:
        make_sampler(request.param, problem(small=True), 0)
    except Unsupported as missing:
        pytest.skip(str(missing))
    return str(request.param)


def problem(small: bool = False) -> Problem:
    points = enumerate_space(SyntheticBackend(small=small).space(workload(), DEVICE))
    return Problem(points, points.index(DEFAULT) or 0)


def propose(sampler: Sampler, count: int) -> list[int]:
    return [p.index for p in sampler.propose(count)]


def test_a_sampler_visits_every_point_of_a_small_space_exactly_once(name: str) -> None:
    sampler = make_sampler(name, problem(small=True), 0)
    seen: list[int] = []
    while proposed := propose(sampler, 4):
        seen += proposed
        sampler.tell([Observation(i, float(i % 7)) for i in proposed])
    assert sorted(seen) == list(range(27))


@pytest.mark.parametrize("name", FAST)
def test_proposals_depend_only_on_the_seed_and_what_was_told(name: str) -> None:
    told = [Observation(i * 37, float(i % 11)) for i in range(20)]
    asked_often, asked_once = (make_sampler(name, problem(), 3) for _ in range(2))
    for start in range(0, 20, 4):
        asked_often.propose(3)
        asked_often.tell(told[start : start + 4])
    asked_once.tell(told)
    assert asked_often.propose(8) == asked_once.propose(8)
    if name != "local":  # its first choices are the same neighbours
        assert propose(make_sampler(name, problem(), 4), 8) != propose(make_sampler(name, problem(), 3), 8)


@pytest.mark.parametrize("name", ["guided", "tpe", "evolution"])
def test_learns_from_failures_and_good_points(name: str) -> None:
    space = problem()
    sampler = make_sampler(name, space, 0)
    sample = range(0, len(space.points), len(space.points) // 60)
    values = [0.01 * i if space.points[p]["algorithm"] == "lut" else math.inf for i, p in enumerate(sample)]
    sampler.tell([Observation(p, value) for p, value in zip(sample, values, strict=True)])
    assert sum(space.points[i]["algorithm"] == "lut" for i in propose(sampler, 16)) > 8


@pytest.mark.parametrize("name", ["guided", "local", "evolution"])
def test_the_default_is_tried_first(name: str) -> None:
    space = problem()
    assert propose(make_sampler(name, space, 5), 1) == [space.default]


@pytest.mark.parametrize("name", FAST)
def test_everything_failing_stops_no_sampler(name: str) -> None:
    sampler = make_sampler(name, problem(), 0)
    seen: list[int] = []
    for _ in range(5):
        proposed = propose(sampler, 5)
        sampler.tell([Observation(i, math.inf) for i in proposed])
        seen += proposed
    assert len(set(seen)) == 25


def test_local_search_reaches_the_bottom_of_a_bowl() -> None:
    points = enumerate_space(Space((Parameter.integers("x", 0, 30), Parameter.integers("y", 0, 30))))
    sampler = make_sampler("local", Problem(points), 0)
    best = math.inf
    for _ in range(400):
        (at,) = propose(sampler, 1)
        x, y = points[at]["x"], points[at]["y"]
        best = min(best, abs(x - 21) + abs(y - 17))
        sampler.tell([Observation(at, float((x - 21) ** 2 + (y - 17) ** 2))])
    assert best == 0


def test_an_unknown_name_is_met_with_the_known_ones() -> None:
    with pytest.raises(InvalidArgument, match="oracle") as error:
        make_sampler("oracle", problem(), 0)
    assert "guided" in (error.value.hint or "")


def points_of(count: int) -> Points:
    """A space of that many points."""
    return enumerate_space(Space((Parameter.integers("x", 0, count - 1),)))


def test_samplers_need_no_more_points_than_there_are(name: str) -> None:
    assert propose(make_sampler(name, Problem(points_of(1)), 0), 8) == [0]
    assert np.array_equal(sorted(propose(make_sampler(name, Problem(points_of(3)), 0), 8)), [0, 1, 2])
