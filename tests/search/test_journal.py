"""When trials are written."""

from __future__ import annotations

from fettle.search.journal import PATIENCE, Journal
from fettle.store.memory import MemoryStore
from fettle.store.values import JobEvent
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
