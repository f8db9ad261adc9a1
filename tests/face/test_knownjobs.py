"""The jobs of a store, asked as those of a server are."""

from __future__ import annotations

import pytest

from fettle.backends.api import Device, MeasurePolicy
from fettle.cli.knownjobs import StoredJobs
from fettle.graph.errors import NotFound
from fettle.graph.workload import Workload
from fettle.store.jobs import JobState
from fettle.store.memory import MemoryStore
from fettle.store.specs import Budget, JobSpec

SOFTMAX = Workload.parse("softmax rows=8 cols=96 act=f32")


def spec(seed: int) -> JobSpec:
    return JobSpec(((SOFTMAX, 1),), Device("paper"), "paper", Budget(4), MeasurePolicy(), seed)


def test_jobs_of_all_pages_are_listed_newest_first() -> None:
    with MemoryStore() as store:
        made = [store.create_job(spec(seed))[0].id for seed in range(60)]
        assert [job.id for job in StoredJobs(store).jobs()] == made[::-1]


def test_watch_gives_every_event_behind_a_number_however_many_and_ends_with_the_job() -> None:
    with MemoryStore() as store:
        job, _ = store.create_job(spec(0))
        for trial in range(1500):
            store.append_event(job.id, "trial", {"trial": trial})
        store.move_job(job.id, (JobState.QUEUED,), JobState.FAILED)
        assert [event.number for event in StoredJobs(store).watch(job.id, after=10)] == list(range(11, 1501))


def test_watching_what_is_no_job_is_refused() -> None:
    with MemoryStore() as store, pytest.raises(NotFound):
        next(StoredJobs(store).watch("nosuchjob"))


def test_a_waiting_job_is_cancelled_at_once() -> None:
    with MemoryStore() as store:
        job, _ = store.create_job(spec(0))
        assert StoredJobs(store).cancel(job.id).state is JobState.CANCELLED
