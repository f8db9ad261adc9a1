"""Several objectives: trials elsewhere are joined like the trials of the search, and give it a better start."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fettle.backends.api import Schedule
from fettle.backends.spaces import enumerate_space
from fettle.costmodel.columns import ScheduleColumns
from fettle.costmodel.metrics import spearman
from fettle.costmodel.transfer import Trials
from fettle.search.elsewhere import trials_elsewhere
from fettle.search.samplers import DEFAULT as GUIDED
from fettle.search.samplers import SAMPLERS, Observation, Problem
from fettle.search.samplers.joined import Frame, FrontPrior, FrontSource, JoinedSource, make_front_prior
from fettle.search.samplers.pareto import for_several
from tests.search.synthetic import DEVICE, SyntheticBackend, workload
from tests.search.test_jobs import Bench

BACKEND = SyntheticBackend()
SPACE = BACKEND.space(workload(), DEVICE)
POINTS = enumerate_space(SPACE)
COLUMNS = ScheduleColumns(SPACE)
BOTH = ("latency", "energy")


def energy(schedule: Schedule) -> float:
    """Joules that large tiles and unrolling cost, but that time likes."""
    return float(schedule["tile_m"] * schedule["tile_n"] * schedule["unroll"] + 1)


def figures(schedule: Schedule, size: int = 256) -> tuple[float, float]:
    """log(seconds) and log(joules)."""
    return math.log(BACKEND.seconds(workload(size), schedule)), math.log(energy(schedule))


def trials(count: int, size: int = 256) -> Trials:
    schedules = tuple(POINTS[i] for i in POINTS.sample(np.random.default_rng(0), count))
    times, joules = np.array([figures(s, size) for s in schedules]).T
    return Trials(schedules, times, "5a" * 32, (joules,))


ROWS = np.array([figures(s) for s in trials(20).schedules])

weights = st.floats(0.0, 1.0).map(lambda share: np.array([share, 1.0 - share]))


@given(weights, st.floats(-9.0, 9.0), st.floats(0.1, 9.0))
def test_distances_depend_neither_on_the_unit_nor_on_the_spread_of_an_objective(
    w: np.ndarray, shift: float, stretch: float
) -> None:
    other = ROWS * [1.0, stretch] + [0.0, shift]
    np.testing.assert_allclose(Frame.of(ROWS).distance(ROWS, w), Frame.of(other).distance(other, w), atol=1e-9)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_joined_source_ranks_its_trials_by_their_distance_from_its_ideal_point(share: float) -> None:
    known = trials(60)
    w = np.array([share, 1.0 - share])
    rows = np.stack([known.values, *known.others], axis=1)
    ideal = rows.min(axis=0)  # the best of each objective is on the front
    front = rows[[not any((o <= r).all() and (o < r).any() for o in rows) for r in rows]]
    scaled = w * (rows - ideal) / (front.max(axis=0) - ideal)
    predicted = JoinedSource(FrontSource(COLUMNS, known), w).predict(COLUMNS.of(known.schedules))
    assert spearman(predicted, scaled.max(axis=1) + 0.05 * scaled.sum(axis=1)) == pytest.approx(1.0)
    assert predicted.std() == pytest.approx(1.0)


def test_a_fan_picks_the_best_of_each_objective_and_something_between() -> None:
    known = trials(60)
    places = COLUMNS.of(known.schedules)
    prior = FrontPrior([FrontSource(COLUMNS, known)]).fan(7)
    picks = prior.picks(prior.trend(places), 7)
    assert {int(known.values.argmin()), int(known.others[0].argmin())} < set(picks)
    assert len(set(picks)) == 7


def test_what_says_nothing_of_one_objective_is_no_source() -> None:
    whole = trials(20)
    alike = Trials(whole.schedules, whole.values, others=(np.zeros(20),))
    times = Trials(whole.schedules, whole.values)
    few = Trials(whole.schedules[:5], whole.values[:5], others=(whole.others[0][:5],))
    assert make_front_prior(POINTS, [alike, times, few], 2) is None
    prior = make_front_prior(POINTS, [alike, whole, times], 2)
    assert prior is not None
    assert len(prior.sources) == 1


def test_many_trials_speak_for_themselves() -> None:
    """From 24 on, what is proposed is the same with a prior and without."""
    tried = POINTS.sample(np.random.default_rng(1), 24)
    told = [(index, *figures(POINTS[index], 512)) for index in tried]
    observations = [Observation(index, time, (joules,)) for index, time, joules in told]
    proposed = []
    for fronts in (None, make_front_prior(POINTS, [trials(64)], 2)):
        sampler = for_several(SAMPLERS[GUIDED], Problem(POINTS, tried[0], fronts=fronts, objectives=2), 0)
        sampler.tell(observations[:16])
        early = sampler.propose(4)
        sampler.tell(observations[16:])
        proposed.append((early, sampler.propose(4)))
    assert proposed[0][0] != proposed[1][0]
    assert proposed[0][1] == proposed[1][1]


def test_a_job_knows_the_trials_that_tell_all_objectives() -> None:
    bench = Bench()
    bench.run(bench.submit(workload(128), trials=8))  # this device tells no energy
    bench.options["energy"] = energy
    bench.run(bench.submit(workload(256), trials=16))
    last = bench.submit(workload(512), objectives=BOTH)
    assert len(trials_elsewhere(bench.store, workload(512), DEVICE, SPACE, last)) == 2
    (known,) = trials_elsewhere(bench.store, workload(512), DEVICE, SPACE, last, BOTH)
    expected = [figures(s) for s in known.schedules]
    np.testing.assert_allclose(np.stack([known.values, *known.others], axis=1), expected)
    before = len(bench.store._models)
    bench.run(last)
    assert len(bench.store._models) == before + 2  # one an objective


def test_a_resumed_job_of_several_objectives_knows_what_it_knew() -> None:
    whole, parts = (Bench(energy=energy) for _ in range(2))
    for bench in (whole, parts):
        bench.run(bench.submit(workload(256), trials=16))
    whole.run(whole.submit(workload(512), trials=16, objectives=BOTH))
    job = parts.submit(workload(512), trials=16, objectives=BOTH)
    parts.stop_after(3, pause := threading.Event())
    parts.run(job, pause=pause)
    pause.clear()
    parts.options.pop("after_trial", None)
    parts.run(job)
    assert parts.schedules() == whole.schedules()
