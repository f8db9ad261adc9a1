"""A job is run by one process; others follow it, or take it over."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from fettle.graph.errors import NotFound
from fettle.search import follow
from fettle.search.follow import run_or_follow
from fettle.store.jobs import Job, JobEvent, JobState
from fettle.store.memory import MemoryStore
from fettle.store.specs import JobSpec
from tests.search.synthetic import DEVICE, workload


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "_LOOK", 0.01)


class Runners:
    """Claims and ends jobs as ``run_job`` does, with one trial event."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.job = store.create_job(JobSpec(((workload(), 1),), DEVICE, "synthetic"))[0]
        self.runs: list[str] = []

    def run(self, store: MemoryStore, job_id: str, *, on_event: Callable[[JobEvent], None], **_: Any) -> Job:
        with store.claim_job(job_id):
            if store.move_job(job_id, (JobState.QUEUED, JobState.RUNNING), JobState.RUNNING):
                self.runs.append(job_id)
                on_event(store.append_event(job_id, "trial", {"by": "follower"}))
                store.move_job(job_id, (JobState.RUNNING,), JobState.DONE)
            return store.get_job(job_id)


@pytest.fixture
def runners() -> Runners:
    return Runners(MemoryStore())


def test_unclaimed_job_runs_here(runners: Runners) -> None:
    seen: list[JobEvent] = []
    job = run_or_follow(runners.store, runners.job.id, on_event=seen.append, run=runners.run)
    assert job.state is JobState.DONE
    assert runners.runs == [job.id]
    assert [event.number for event in seen] == [1]


def test_follower_sees_every_event_once_and_runs_nothing(runners: Runners) -> None:
    store, job_id = runners.store, runners.job.id
    seen: list[JobEvent] = []
    follows = threading.Event()
    thread = threading.Thread(
        target=lambda: run_or_follow(store, job_id, on_event=seen.append, on_follow=follows.set, run=runners.run)
    )
    with store.claim_job(job_id):
        store.move_job(job_id, (JobState.QUEUED,), JobState.RUNNING)
        store.append_event(job_id, "trial", {"by": "runner"})
        thread.start()
        assert follows.wait(5)
        for _ in range(20):
            store.append_event(job_id, "trial", {"by": "runner"})
        store.move_job(job_id, (JobState.RUNNING,), JobState.DONE)
        store.append_event(job_id, "state", {"state": "done"})
    thread.join(5)
    assert [event.number for event in seen] == list(range(1, 23))
    assert runners.runs == []


def test_follower_takes_over_when_the_runner_dies(runners: Runners) -> None:
    store, job_id = runners.store, runners.job.id
    seen: list[JobEvent] = []
    follows = threading.Event()
    jobs: list[Job] = []
    thread = threading.Thread(
        target=lambda: jobs.append(
            run_or_follow(store, job_id, on_event=seen.append, on_follow=follows.set, run=runners.run)
        )
    )
    with store.claim_job(job_id):  # let go while the job still says that it runs: so it looks after a kill
        store.move_job(job_id, (JobState.QUEUED,), JobState.RUNNING)
        store.append_event(job_id, "trial", {"by": "runner"})
        thread.start()
        assert follows.wait(5)
    thread.join(5)
    assert runners.runs == [job_id]
    assert jobs[0].state is JobState.DONE
    assert [(event.number, event.data["by"]) for event in seen] == [(1, "runner"), (2, "follower")]


def test_follower_that_stops_leaves_the_job_running(runners: Runners) -> None:
    store, job_id = runners.store, runners.job.id
    cancel = threading.Event()
    with store.claim_job(job_id):
        store.move_job(job_id, (JobState.QUEUED,), JobState.RUNNING)
        job = run_or_follow(store, job_id, cancel=cancel, on_follow=cancel.set, run=runners.run)
        assert job.state is JobState.RUNNING
        assert not store.get_job(job_id).cancel_requested
    assert runners.runs == []


def test_missing_job_is_not_found(runners: Runners) -> None:
    with pytest.raises(NotFound):
        run_or_follow(runners.store, "0000000000000")
