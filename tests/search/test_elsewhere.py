"""Jobs begin with what the store knows of their operator from other shapes."""

from __future__ import annotations

import math
import threading

import pytest

from fettle.backends.api import Schedule
from fettle.costmodel import transfer
from fettle.search.elsewhere import grouped, trials_elsewhere
from tests.search.synthetic import DEFAULT, DEVICE, SyntheticBackend, workload
from tests.search.test_jobs import Bench


def test_a_job_knows_the_trials_of_earlier_jobs_alone() -> None:
    bench = Bench()
    first = bench.submit(workload(256), trials=16)
    bench.run(first)
    second = bench.submit(workload(512), trials=16)
    space = bench.backend.space(workload(), DEVICE)
    (known,) = trials_elsewhere(bench.store, workload(512), DEVICE, space, second)
    assert len(known.schedules) == 16
    expected = [math.log(bench.backend.seconds(workload(256), s)) for s in known.schedules]
    assert sorted(known.values.tolist()) == sorted(expected)
    assert trials_elsewhere(bench.store, workload(512), DEVICE, space, first) == []
    small = SyntheticBackend(small=True).space(workload(), DEVICE)  # other choices, but another version too
    assert trials_elsewhere(bench.store, workload(512), DEVICE, small, second) == []


def test_the_first_batch_of_another_shape_is_better_than_a_cold_one() -> None:
    def first_batch(known: int) -> list[Schedule]:
        bench = Bench(SyntheticBackend(variant=2))
        for number in range(known):
            bench.run(bench.submit(workload(128 << number), trials=64))
        before = len(bench.schedules())
        bench.run(bench.submit(workload(1024), trials=8))
        return bench.schedules()[before:]

    warm, cold = first_batch(1), first_batch(0)
    assert warm[0] == cold[0] == DEFAULT
    backend = SyntheticBackend(variant=2)
    best = [min(backend.seconds(workload(1024), s) for s in batch) for batch in (warm, cold)]
    assert best[0] < best[1]


def test_a_resumed_job_knows_what_it_knew() -> None:
    whole, parts = Bench(SyntheticBackend(variant=1)), Bench(SyntheticBackend(variant=1))
    for bench in (whole, parts):
        bench.run(bench.submit(workload(256), trials=16))
    whole.run(whole.submit(workload(512), trials=24))
    job = parts.submit(workload(512), trials=24)
    parts.stop_after(11, pause := threading.Event())
    parts.run(job, pause=pause)
    pause.clear()
    parts.options.pop("after_trial", None)
    parts.run(job)
    assert parts.schedules() == whole.schedules()


def test_models_of_earlier_trials_are_kept_with_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    fits: list[int] = []
    real = transfer.Source._fit
    monkeypatch.setattr(transfer.Source, "_fit", lambda source: fits.append(len(source._rows)) or real(source))
    for number, trials in enumerate((16, 9, 10)):
        bench.run(bench.submit(workload(256 << number), trials=trials))
        assert len(bench.store._models) == number
    assert fits == [16, 9]  # the third job took the first one's model, and fitted the second one's


def test_groups_hold_each_schedule_once() -> None:
    bench = Bench()
    for _ in range(2):
        bench.run(bench.submit(workload(256), trials=16, force=True))
    (group,) = grouped(bench.store.records())
    keys = [r.candidate.key for r in group]
    assert len(set(keys)) == len(keys)
    assert 16 <= len(keys) <= 32
