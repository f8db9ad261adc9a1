"""A space on a device that is new, from a few measurements there and trials on others."""

from __future__ import annotations

import math
from pathlib import Path

import attrs
import numpy as np
import pytest
from scipy import stats

from fettle.backends.api import Device, Outcome, Record, Schedule
from fettle.backends.replay.files import read_recording
from fettle.backends.spaces import enumerate_space
from fettle.bench.recording import record_schedules
from fettle.costmodel.transfer import Trials
from fettle.graph.errors import InvalidArgument, Unsupported
from fettle.search import newdevice
from fettle.search.elsewhere import on_other_devices
from fettle.search.explore import recorded_trials
from fettle.search.newdevice import NewDevice
from tests.backends.replay.samples import large
from tests.search.synthetic import DEVICE, SyntheticBackend, SyntheticExecutor, workload
from tests.search.test_jobs import Bench


@pytest.fixture(autouse=True)
def small_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the 10⁴ schedules."""
    monkeypatch.setattr(newdevice, "_LOOKED_AT", 600)


class Executed(SyntheticBackend):
    """A synthetic device that brings its executor."""

    def executor(self, device: Device) -> SyntheticExecutor:
        return SyntheticExecutor(self)


POINTS = enumerate_space(SyntheticBackend().space(workload(), DEVICE))


def trials_on(variant: int, count: int = 600) -> Trials:
    """Random trials on another device, of which a tenth fail."""
    rng = np.random.default_rng(0)
    schedules = tuple(POINTS[i] for i in POINTS.sample(rng, count))
    backend = SyntheticBackend(variant=variant)
    times = np.array([math.log(backend.seconds(workload(), s)) for s in schedules])
    return Trials(schedules, np.where(rng.random(count) < 0.1, np.inf, times))


def measured(schedules: list[Schedule]) -> list[Record]:
    return record_schedules(Executed(variant=1), workload(), DEVICE, schedules, rounds=1, seed=0)


def test_schedules_that_were_not_measured_are_predicted_in_seconds_the_fastest_first() -> None:
    new = NewDevice(POINTS, [trials_on(0), trials_on(1), Trials((), np.empty(0))])
    assert new.known == 2
    chosen = new.references(seed=3)
    assert len(set(chosen)) == 10
    assert chosen == new.references(seed=3)
    predicted = new.predict(measured(chosen))
    assert {p.schedule for p in predicted} == set(new.schedules) - set(chosen)
    seconds = [p.seconds for p in predicted]
    assert seconds == sorted(seconds)
    actual = [SyntheticBackend(variant=1).seconds(workload(), p.schedule) for p in predicted]
    assert stats.spearmanr(seconds, actual).statistic > 0.9
    assert 0.5 < np.median(np.array(seconds) / actual) < 2.0


def test_of_a_large_space_what_was_tried_elsewhere_is_predicted_with_a_random_part() -> None:
    known = trials_on(0, 50)
    new = NewDevice(POINTS, [known])
    assert len(set(new.schedules)) == len(new.schedules) == 600
    assert set(known.schedules) < set(new.schedules)


def test_measurements_that_say_nothing_are_told_apart_from_knowledge_that_does_not_suffice() -> None:
    with pytest.raises(InvalidArgument, match="too few times"):
        NewDevice(POINTS, [trials_on(0, 5)])
    new = NewDevice(POINTS, [trials_on(0, 100)])
    (one, *rest) = measured(new.references(0))
    failed = [attrs.evolve(r, measurement=attrs.evolve(r.measurement, outcome=Outcome.CRASH)) for r in rest]
    with pytest.raises(Unsupported, match="10 measurements, of which 1 worked"):
        new.predict([one, *failed])


def test_a_recording_is_what_is_known_of_its_schedules(tmp_path: Path) -> None:
    recording = read_recording(large(tmp_path / "a.json"))
    points = enumerate_space(recording.space)
    numbers = range(0, 1200, 100)
    times = newdevice.known_times([points[number] for number in numbers], [recorded_trials(recording)])
    objectives = [recording.rows[number].objective for number in numbers]
    assert times[:, 0].tolist() == [math.inf if o is None else math.log(o) for o in objectives]


def test_the_store_knows_the_same_workload_on_other_devices() -> None:
    bench = Bench()
    bench.run(bench.submit(workload(256), trials=16))
    bench.run(bench.submit(workload(512), trials=16))
    space = bench.backend.space(workload(), DEVICE)
    (known,) = on_other_devices(bench.store, workload(256), attrs.evolve(DEVICE, backend="elsewhere"), space)
    assert len(known.schedules) == 16
    assert on_other_devices(bench.store, workload(256), DEVICE, space) == []
    small = SyntheticBackend(small=True).space(workload(), DEVICE)
    assert on_other_devices(bench.store, workload(256), attrs.evolve(DEVICE, backend="elsewhere"), small) == []
