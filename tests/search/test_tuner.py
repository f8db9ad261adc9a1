"""The loop of one workload."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fettle.backends.api import Bound, Outcome, Record, Schedule
from fettle.costmodel.foresight import Foresight
from fettle.search.tuner import WorkloadTuner
from tests.search.synthetic import DEFAULT, DEVICE, SyntheticBackend, SyntheticExecutor, chance, workload

BOUND = Bound(1e-3, "peak:f32")


def flaky(schedule: Schedule) -> Outcome | None:
    """A third of all schedules fail, in every way there is."""
    outcomes = [o for o in Outcome if o is not Outcome.OK]
    at = int(chance(schedule.key, "fails") * 3 * len(outcomes))
    return outcomes[at] if at < len(outcomes) and schedule != DEFAULT else None


def run(backend: SyntheticBackend, steps: Iterable[int], rebuild: bool) -> list[Record]:
    """Records after steps of these many trials, with the tuner made anew from its records before each or not."""
    executor = SyntheticExecutor(backend)
    tuner = WorkloadTuner(backend, workload(), DEVICE, BOUND, clock=executor.clock)
    for trials in steps:
        if rebuild:
            tuner = WorkloadTuner(backend, workload(), DEVICE, BOUND, history=tuner.records, clock=executor.clock)
        tuner.step(executor.open(workload(), tuner.policy, 0), trials)
    return tuner.records


@functools.cache
def uninterrupted() -> list[Record]:
    """A search of six whole batches."""
    return run(SyntheticBackend(fails=flaky), [8] * 6, rebuild=False)


@settings(max_examples=3, deadline=None)
@given(st.lists(st.integers(1, 8), min_size=4, max_size=6))
def test_resuming_equals_continuing_wherever_it_stopped(steps: list[int]) -> None:
    backend = SyntheticBackend(fails=flaky)
    resumed = run(backend, steps, rebuild=True)
    continued = run(backend, steps, rebuild=False)
    whole = uninterrupted()[: len(resumed)]
    assert [r.candidate for r in resumed] == [r.candidate for r in continued] == [r.candidate for r in whole]
    assert [r.predicted for r in resumed] == [r.predicted for r in whole]


def test_no_schedule_is_tried_twice_and_the_default_is_first() -> None:
    schedules = [r.candidate.schedule for r in uninterrupted()]
    assert schedules[0] == DEFAULT
    assert len(set(schedules)) == 48


def test_every_kind_of_failure_is_recorded_and_survived() -> None:
    outcomes = itertools.cycle(Outcome)
    seen: dict[str, Outcome] = {}

    def fails(schedule: Schedule) -> Outcome | None:
        outcome = seen.setdefault(schedule.key, next(outcomes)) if schedule.key not in seen else seen[schedule.key]
        return None if outcome is Outcome.OK else outcome

    records = run(SyntheticBackend(fails=fails), [8] * 3, rebuild=False)
    assert {r.measurement.outcome for r in records} == set(Outcome)
    for record in records:
        assert record.verified == record.measurement.ok
        built = record.measurement.outcome not in (Outcome.INVALID, Outcome.COMPILE_ERROR)
        assert bool(record.artifact_sha256) == built
        assert record.seconds > 0
        assert record.features


def test_predictions_are_recorded_before_measuring_and_rank_what_comes() -> None:
    backend = SyntheticBackend()
    executor = SyntheticExecutor(backend)
    tuner = WorkloadTuner(backend, workload(), DEVICE, BOUND, clock=executor.clock)
    session = executor.open(workload(), tuner.policy, 0)
    tuner.step(session, 8)
    assert all(r.predicted is None for r in tuner.records)
    assert tuner.foresight() == Foresight()
    for _ in range(6):
        tuner.step(session, 8)
    assert all(r.predicted is not None for r in tuner.records[8:])
    found = tuner.foresight()
    assert found.spearman is not None
    assert found.spearman > 0.3
    assert found.coverage is not None
    assert 0.7 <= found.coverage <= 1.0
    later = tuner.records[8:]
    errors = [math.log(r.measurement.time / BOUND.seconds) - (r.predicted or 0.0) for r in later]
    typical = np.median(np.abs(errors) / np.array([r.predicted_std for r in later], np.float64))
    assert 0.1 < typical < 2.0  # standard deviations are of the size of the errors


def test_a_step_stops_between_two_trials_when_told() -> None:
    backend = SyntheticBackend()
    executor = SyntheticExecutor(backend)
    tuner = WorkloadTuner(backend, workload(), DEVICE, BOUND, clock=executor.clock)
    session = executor.open(workload(), tuner.policy, 0)
    assert tuner.step(session, 8, should_stop=lambda: len(executor.evaluated) >= 3) == 3
    assert tuner.trials == len(executor.evaluated) == 3


def test_finals_of_a_rebuilt_tuner_build_their_finalists_again() -> None:
    backend = SyntheticBackend()
    records = run(backend, [8] * 4, rebuild=False)
    executor = SyntheticExecutor(backend)
    tuner = WorkloadTuner(backend, workload(), DEVICE, BOUND, history=records, clock=executor.clock)
    verdict = tuner.play_finals(executor.open(workload(), tuner.policy, 0))
    assert verdict is not None
    assert verdict.best_s == tuner.best_s == min(r.measurement.median for r in records if r.verified)
    assert executor.compared == [(4, 15)]


def test_finals_that_are_late_have_few_rounds_and_none_for_a_finalist_without_rivals() -> None:
    backend = SyntheticBackend()
    executor = SyntheticExecutor(backend)
    tuner = WorkloadTuner(backend, workload(), DEVICE, BOUND, clock=executor.clock)
    session = executor.open(workload(), tuner.policy, 0)
    tuner.step(session, 1)
    verdict = tuner.play_finals(session, until=executor.clock())
    assert executor.compared == []
    assert verdict is not None
    assert verdict.winner.record == tuner.records[0]
    assert verdict.best_s == verdict.default_s == tuner.records[0].measurement.time
    tuner.step(session, 7)
    tuner.play_finals(session, until=executor.clock() + 1.0)
    tuner.play_finals(session, until=executor.clock() + 100.0)
    assert executor.compared == [(4, 7), (4, 15)]


def test_the_default_plays_the_finals_even_if_it_is_the_slowest() -> None:
    backend = SyntheticBackend()
    executor = SyntheticExecutor(backend)
    tuner = WorkloadTuner(backend, workload(), DEVICE, BOUND, clock=executor.clock)
    session = executor.open(workload(), tuner.policy, 0)
    for _ in range(4):
        tuner.step(session, 8)
    verdict = tuner.play_finals(session)
    assert verdict is not None
    assert verdict.default_s == backend.seconds(workload(), DEFAULT)
    assert verdict.best_s < verdict.default_s
