"""When trials are written."""

from __future__ import annotations

import time
from typing import Any

import pytest

from fettle.graph.errors import StoreFull
from fettle.search.journal import PATIENCE, Journal
from fettle.store.jobs import JobEvent
from fettle.store.memory import MemoryStore
from tests.search.synthetic import FakeClock
from tests.store.samples import record, spec


def test_quick_trials_are_written_together_and_a_slow_one_at_once() -> None:
    store, clock, events = MemoryStore(), FakeClock(), list[JobEvent]()
    job, _ = store.create_job(spec())
    journal = Journal(store, job.id, clock, events.append)
    for tile in (1, 2):
        journal.add(record(tile), {"trial": tile})
    assert store.get_job(job.id).trials == 0
    clock.now += PATIENCE
    journal.add(record(4), {"trial": 4})
    assert store.get_job(job.id).trials == 3
    journal.add(record(8), {"trial": 8})
    assert store.get_job(job.id).trials == 3
    journal.flush()
    journal.flush()
    assert [event.data["trial"] for event in events] == [1, 2, 4, 8]
    assert tuple(events) == store.events(job.id)


def test_trials_are_written_while_the_next_one_hangs_and_told_by_the_thread_that_adds_them() -> None:
    store, events = MemoryStore(), list[JobEvent]()
    job, _ = store.create_job(spec())
    journal = Journal(store, job.id, FakeClock(), events.append)
    for tile in (1, 2):
        journal.add(record(tile), {"trial": tile})
    while len(store.events(job.id)) < 2:  # ends by the suite's time limit, if the timer does not
        time.sleep(0.01)
    assert store.get_job(job.id).trials == 2
    assert events == []
    journal.flush()
    assert tuple(events) == store.events(job.id)


def test_trials_that_cannot_be_written_wait_until_they_can() -> None:
    class Flaky(MemoryStore):
        down = True

        def add_records(self, *arguments: Any) -> tuple[JobEvent | None, ...]:
            if self.down:
                raise StoreFull("no space left")
            return super().add_records(*arguments)

    store, events = Flaky(), list[JobEvent]()
    job, _ = store.create_job(spec())
    journal = Journal(store, job.id, FakeClock(), events.append)
    journal.add(record(1), {"trial": 1})
    with pytest.raises(StoreFull):
        journal.flush()
    store.down = False
    journal.add(record(2), {"trial": 2})
    journal.flush()
    assert [event.data["trial"] for event in events] == [1, 2]
    assert store.get_job(job.id).trials == 2
