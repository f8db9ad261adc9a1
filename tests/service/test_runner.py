"""The job manager when things around it break."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from fettle.graph.errors import Conflict, FettleError, ResourceExhausted, Unavailable
from fettle.service import runner
from fettle.service.runner import JobManager
from fettle.service.watch import EventHub
from fettle.store.jobs import Job, JobEvent, JobState
from fettle.store.memory import MemoryStore
from fettle.store.specs import JobSpec
from tests.service.paper import PAPER, Steps, matmul
from tests.service.waiting import eventually


class Flaky(MemoryStore):
    """Unavailable while ``down`` is set."""

    down = False

    def get_job(self, job_id: str) -> Job:
        if self.down:
            raise Unavailable("the database is away")
        return super().get_job(job_id)


def make_job(store: MemoryStore, seed: int = 0) -> Job:
    return store.create_job(JobSpec(((matmul(), 1),), PAPER.devices()[0], "paper", seed=seed))[0]


@pytest.fixture
def flaky() -> Flaky:
    return Flaky()


@pytest_asyncio.fixture
async def manager(flaky: Flaky, steps: Steps) -> AsyncIterator[JobManager]:
    made = JobManager(flaky, steps, EventHub(flaky))
    yield made
    await made.stop(1.0)


async def test_job_waits_while_the_store_is_away(
    manager: JobManager, flaky: Flaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_RETRY_SECONDS", (0.05,))
    await manager.start()
    job = make_job(flaky)
    flaky.down = True
    await manager.enqueue(job)
    await asyncio.sleep(0.2)
    assert flaky.list_jobs().jobs[0].state is JobState.QUEUED
    flaky.down = False
    await eventually(lambda: flaky.get_job(job.id).state is JobState.DONE)


async def test_store_that_goes_away_during_a_job_does_not_end_its_run(
    manager: JobManager, flaky: Flaky, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_RETRY_SECONDS", (0.05,))
    monkeypatch.setattr(runner, "_LOOK_FOR_CANCEL", 0.02)
    steps.gated = True
    await manager.start()
    job = make_job(flaky)
    await manager.enqueue(job)
    await eventually(lambda: steps.started == [job.id])
    flaky.down = True
    await asyncio.sleep(0.2)
    assert manager.running == job.id
    flaky.down = False
    steps.permits.release(10)
    await eventually(lambda: flaky.get_job(job.id).state is JobState.DONE)
    assert steps.started == [job.id]


async def test_job_that_filled_the_disk_goes_on_once_there_is_room(
    monkeypatch: pytest.MonkeyPatch, steps: Steps
) -> None:
    monkeypatch.setattr(runner, "_RETRY_SECONDS", (0.05,))

    class Full(MemoryStore):
        """Full from the second trial on, until even the end of the job could not be stored."""

        full = False

        def append_event(self, job_id: str, kind: str, data: Any) -> JobEvent:
            if self.full:
                raise ResourceExhausted("no space left")
            event = super().append_event(job_id, kind, data)
            self.full = event.data.get("trial") == 2
            return event

        def move_job(self, *arguments: Any, **named: Any) -> bool:
            if self.full:
                self.full = False
                raise ResourceExhausted("no space left")
            return super().move_job(*arguments, **named)

    store = Full()
    manager = JobManager(store, steps, EventHub(store))
    await manager.start()
    job = make_job(store)
    await manager.enqueue(job)
    await eventually(lambda: store.get_job(job.id).state is JobState.DONE)
    await manager.stop(1.0)
    assert steps.started == [job.id, job.id]
    assert [event.data["trial"] for event in store.events(job.id) if event.kind == "trial"] == [1, 2, 3]


async def test_unfinished_jobs_are_taken_up_oldest_first(manager: JobManager, flaky: Flaky, steps: Steps) -> None:
    jobs = [make_job(flaky, seed) for seed in range(4)]
    flaky.move_job(jobs[0].id, [JobState.QUEUED], JobState.PAUSED)
    flaky.move_job(jobs[1].id, [JobState.QUEUED], JobState.DONE)
    flaky.move_job(jobs[3].id, [JobState.QUEUED], JobState.RUNNING)
    await manager.start()
    await eventually(lambda: len(steps.started) == 3 and manager.running is None)
    assert steps.started == [jobs[0].id, jobs[2].id, jobs[3].id]


async def test_job_that_another_process_runs_is_left_alone_while_others_run(
    manager: JobManager, flaky: Flaky, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_LOOK_AGAIN", 0.05)
    foreign, ours = make_job(flaky, 0), make_job(flaky, 1)
    with flaky.claim_job(foreign.id):
        flaky.move_job(foreign.id, [JobState.QUEUED], JobState.RUNNING)
        await manager.start()
        await eventually(lambda: flaky.get_job(ours.id).state is JobState.DONE)
        await asyncio.sleep(0.2)
        assert flaky.get_job(foreign.id).state is JobState.RUNNING
        assert flaky.events(foreign.id) == ()
        flaky.move_job(foreign.id, [JobState.RUNNING], JobState.DONE)
    later = make_job(flaky, 2)
    await manager.enqueue(later)
    await eventually(lambda: flaky.get_job(later.id).state is JobState.DONE)
    assert steps.started == [ours.id, later.id]


async def test_job_whose_process_died_is_taken_up(
    manager: JobManager, flaky: Flaky, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_LOOK_AGAIN", 0.05)
    job = make_job(flaky)
    with flaky.claim_job(job.id):
        flaky.move_job(job.id, [JobState.QUEUED], JobState.RUNNING)
        await manager.start()
        await asyncio.sleep(0.2)
        assert steps.started == []
    await eventually(lambda: flaky.get_job(job.id).state is JobState.DONE)
    assert steps.started == [job.id]


async def test_job_enqueued_many_times_at_once_runs_once(manager: JobManager, flaky: Flaky, steps: Steps) -> None:
    await manager.start()
    job = make_job(flaky)
    flaky.move_job(job.id, [JobState.QUEUED], JobState.PAUSED)
    paused = flaky.get_job(job.id)
    await asyncio.gather(*(manager.enqueue(paused) for _ in range(20)))
    await eventually(lambda: flaky.get_job(job.id).state is JobState.DONE)
    await asyncio.sleep(0.1)
    assert steps.started == [job.id]


async def test_domain_error_of_a_run_fails_the_job_with_its_message(flaky: Flaky) -> None:
    def run(*_: Any, **__: Any) -> Job:
        raise FettleError("the glue is dry")

    manager = JobManager(flaky, run, EventHub(flaky))
    await manager.start()
    job = make_job(flaky)
    await manager.enqueue(job)
    await eventually(lambda: flaky.get_job(job.id).state is JobState.FAILED and manager.running is None)
    assert flaky.get_job(job.id).error == "the glue is dry"
    assert [e.data for e in flaky.events(job.id)] == [{"state": "failed", "error": "the glue is dry"}]
    await manager.stop(1.0)


async def test_job_that_ignores_the_pause_does_not_hold_up_the_stop(flaky: Flaky) -> None:
    release = threading.Event()

    def run(store: MemoryStore, job_id: str, **_: Any) -> Job:
        store.move_job(job_id, (JobState.QUEUED,), JobState.RUNNING)
        release.wait(10)
        return store.get_job(job_id)

    manager = JobManager(flaky, run, EventHub(flaky))
    await manager.start()
    job = make_job(flaky)
    await manager.enqueue(job)
    await eventually(lambda: flaky.get_job(job.id).state is JobState.RUNNING)
    await asyncio.wait_for(manager.stop(0.1), 2.0)
    release.set()
    assert flaky.get_job(job.id).state is JobState.RUNNING


async def test_jobs_of_other_machines_devices_are_left_to_them(flaky: Flaky, steps: Steps) -> None:
    foreign, ours = make_job(flaky, 0), make_job(flaky, 1)
    flaky.move_job(foreign.id, [JobState.QUEUED], JobState.PAUSED)
    manager = JobManager(flaky, steps, EventHub(flaky), lambda spec: spec.seed == 1)
    await manager.start()
    await eventually(lambda: flaky.get_job(ours.id).state is JobState.DONE)
    with pytest.raises(Conflict, match="not this machine's"):
        await manager.resume(foreign.id)
    await manager.stop(1.0)
    assert steps.started == [ours.id]
    assert flaky.get_job(foreign.id).state is JobState.PAUSED


async def test_idle_server_takes_up_what_another_one_left(
    manager: JobManager, flaky: Flaky, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_LOOK_FOR_JOBS", 0.05)
    await manager.start()
    job = make_job(flaky)
    flaky.move_job(job.id, [JobState.QUEUED], JobState.RUNNING)
    flaky.down = True
    await asyncio.sleep(0.15)
    flaky.down = False
    await eventually(lambda: flaky.get_job(job.id).state is JobState.DONE)
    assert steps.started == [job.id]
