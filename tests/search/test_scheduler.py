"""Who gets the next batch."""

from __future__ import annotations

import math

import pytest

from fettle.backends.api import Bound, Outcome
from fettle.graph.workload import Workload
from fettle.search.batches import BATCH
from fettle.search.gains import expected_gain
from fettle.search.samplers import DEFAULT, SAMPLERS
from fettle.search.scheduler import Scheduler
from fettle.search.tuner import WorkloadTuner
from tests.search.synthetic import DEVICE, FakeClock, SyntheticBackend, SyntheticExecutor, workload


class Setting:
    """Tuners on synthetic workloads, with a clock."""

    def __init__(self, *weights: int, small: bool = False, sampler: str = DEFAULT) -> None:
        self.clock = FakeClock()
        backend = SyntheticBackend(small=small)
        self.executor = SyntheticExecutor(backend, clock=self.clock)
        self.tuners = [
            WorkloadTuner(
                backend,
                workload(256 + i),
                DEVICE,
                Bound(1e-3, "peak:f32"),
                count=weight,
                clock=self.clock,
                sampler=SAMPLERS[sampler],
            )
            for i, weight in enumerate(weights)
        ]

    def run(self, total: int, deadline: float = math.inf) -> list[Workload]:
        scheduler = Scheduler(self.tuners, total, deadline, self.clock)
        order = []
        while turn := scheduler.next():
            session = self.executor.open(turn.tuner.workload, turn.tuner.policy, 0)
            turn.tuner.step(session, turn.trials, until=turn.until)
            order.append(turn.tuner.workload)
        return order


def test_every_workload_is_warmed_up_before_any_gets_more() -> None:
    setting = Setting(1, 50, 1)
    order = setting.run(64)
    assert set(order[:3]) == {t.workload for t in setting.tuners}
    assert order[0] == setting.tuners[1].workload


def test_the_workload_that_occurs_most_gets_most_trials() -> None:
    setting = Setting(1, 12, 1)
    setting.run(3 * 16)
    trials = [t.trials for t in setting.tuners]
    assert sum(trials) == 48
    assert trials[1] > 1.5 * max(trials[0], trials[2])


def test_trials_of_an_exhausted_space_go_to_the_others() -> None:
    setting = Setting(100, 1, sampler="random")  # without a model, a gap to the roof is always a gap
    small = Setting(100, small=True, sampler="random")
    setting.tuners[0] = small.tuners[0]
    small.clock, small.tuners[0]._clock = setting.clock, setting.clock
    total = 80
    scheduler = Scheduler(setting.tuners, total, math.inf, setting.clock)
    while turn := scheduler.next():
        executor = small.executor if turn.tuner is small.tuners[0] else setting.executor
        turn.tuner.step(executor.open(turn.tuner.workload, turn.tuner.policy, 0), turn.trials)
    assert [t.trials for t in setting.tuners] == [27, 53]
    assert scheduler.total == scheduler.done == 80


def test_more_trials_than_schedules_end_when_all_spaces_are_used_up() -> None:
    setting = Setting(1, 1, small=True)
    setting.run(1000)
    assert [t.trials for t in setting.tuners] == [27, 27]


def test_a_warm_up_is_shared_fairly_when_there_are_fewer_trials_than_batches() -> None:
    setting = Setting(1, 1, 1, 1)
    setting.run(8)
    assert [t.trials for t in setting.tuners] == [2, 2, 2, 2]


@pytest.mark.parametrize(
    ("seconds", "trial_seconds"), [(10.0, 1.0), (33.0, 1.0), (70.0, 1.0), (30.0, 4.0), (60.0, 4.0)]
)
def test_the_time_limit_holds_with_finals_reserved(seconds: float, trial_seconds: float) -> None:
    """Trials that take seconds are no reason to exceed it either, though nothing is known of them at first."""
    setting = Setting(1, 3) if trial_seconds == 1.0 else Setting(1)
    setting.executor.trial_seconds = trial_seconds
    begun = setting.clock()
    scheduler = Scheduler(setting.tuners, 1000, begun + seconds, setting.clock)
    while turn := scheduler.next():
        session = setting.executor.open(turn.tuner.workload, turn.tuner.policy, 0)
        turn.tuner.step(session, turn.trials, until=turn.until)
    batch_build = BATCH * setting.executor.build_seconds
    assert setting.clock() + scheduler.reserve() <= begun + seconds + setting.executor.trial_seconds + batch_build
    assert min(t.trials for t in setting.tuners) >= 1
    assert setting.clock() > begun + 0.5 * seconds


def test_the_time_left_does_not_take_the_first_trial_for_the_others() -> None:
    """It compiles a simulator, say."""
    setting = Setting(1)
    tuner, executor = setting.tuners[0], setting.executor
    scheduler = Scheduler(setting.tuners, 50, math.inf, setting.clock)
    executor.build_seconds, executor.trial_seconds = 0.0, 100.0
    left: list[float | None] = []

    def told(_: object) -> None:
        executor.trial_seconds = 1.0
        left.append(scheduler.eta())

    tuner.step(executor.open(tuner.workload, tuner.policy, 0), BATCH, on_record=told)
    assert left[:2] == [None, None]
    finalists = 4
    assert left[2:] == pytest.approx([50 - trial + finalists for trial in range(3, BATCH + 1)], abs=1.5)


def test_gain_grows_with_weight_and_shrinks_with_effort_and_towards_the_roof() -> None:
    one, many = Setting(1).tuners[0], Setting(7).tuners[0]
    assert expected_gain(many) == pytest.approx(7 * expected_gain(one))
    setting = Setting(1)
    setting.run(8)
    tuner = setting.tuners[0]
    before = expected_gain(tuner)
    assert tuner.best_s is not None
    tuner.bound = Bound(tuner.best_s * 0.99, "peak:f32")
    assert expected_gain(tuner) < 0.05 * before


def test_what_the_model_has_no_hope_for_gets_no_more_trials() -> None:
    """Both are far from the roof, but one has found the best of its space."""
    setting = Setting(1, 3)
    setting.tuners[1] = found = Setting(3, small=True).tuners[0]
    executor = SyntheticExecutor(SyntheticBackend(small=True))
    while found.trials < 24:
        found.step(executor.open(found.workload, found.policy, 0), BATCH)
    setting.tuners[0].step(setting.executor.open(setting.tuners[0].workload, found.policy, 0), BATCH)
    assert (found.model_gain() or 0.0) < 0.1 * (setting.tuners[0].model_gain() or 0.0)
    turn = Scheduler(setting.tuners, 100, math.inf, setting.clock).next()
    assert turn is not None
    assert turn.tuner is setting.tuners[0]


def test_when_time_is_short_a_gain_counts_by_the_second() -> None:
    """Two workloads of like gain, and the trials of the heavier one take ten times as long."""
    setting = Setting(2, 1)
    setting.run(2 * BATCH)
    slow, quick = setting.tuners
    slow.trial_seconds, quick.trial_seconds = 10.0, 1.0
    assert 0.1 < expected_gain(quick) / expected_gain(slow) < 1.0
    now = setting.clock()
    by_trial = Scheduler(setting.tuners, 200, math.inf, setting.clock).next()
    by_second = Scheduler(
        setting.tuners, 200, now + 100.0 + sum(t.finals_seconds() for t in setting.tuners), setting.clock
    ).next()
    assert by_trial is not None
    assert by_second is not None
    assert (by_trial.tuner, by_second.tuner) == (slow, quick)


def test_a_workload_without_a_valid_trial_loses_its_claim_slowly() -> None:
    backend = SyntheticBackend(fails=lambda schedule: Outcome.WRONG_RESULT)
    tuner = WorkloadTuner(backend, workload(), DEVICE, Bound(1.0, "peak:f32"))
    executor = SyntheticExecutor(backend)
    session = executor.open(workload(), tuner.policy, 0)
    gains = []
    for _ in range(3):
        tuner.step(session, BATCH)
        gains.append(expected_gain(tuner))
    assert gains == pytest.approx([0.5, 0.25, 1 / 6])


def graph_seconds(variant: int, total: int, gain: bool) -> float:
    """One pass of a graph of unequal parts after that many trials, by expected gain or in turn."""
    executor = SyntheticExecutor(SyntheticBackend(variant=variant, rugged=0.3))
    tuners = [
        WorkloadTuner(
            executor.backend,
            workload(n),
            DEVICE,
            executor.backend.bound(workload(n), DEVICE, executor.profile()),
            count=count,
            seed=variant,
            clock=executor.clock,
        )
        for n, count in ((2048, 12), (512, 4), (256, 1), (128, 2), (64, 1), (64 + 16, 1))
    ]
    sessions = {t.workload.key: executor.open(t.workload, t.policy, 0) for t in tuners}
    scheduler = Scheduler(tuners, total, math.inf, executor.clock)
    for turn in range(total):
        if gain:
            if (following := scheduler.next()) is None:
                break
            tuner, trials = following.tuner, following.trials
        else:
            tuner, trials = tuners[turn % len(tuners)], min(8, total - scheduler.done)
        if trials < 1:
            break
        tuner.step(sessions[tuner.workload.key], trials)
    assert scheduler.done == total
    return sum(t.count * (t.best_s or math.inf) for t in tuners)


def test_expected_gain_beats_round_robin_at_equal_trials_over_graphs() -> None:
    ratios = [graph_seconds(v, 96, gain=True) / graph_seconds(v, 96, gain=False) for v in range(2)]
    assert math.prod(ratios) ** (1 / 2) < 0.95
    assert max(ratios) < 1.05
