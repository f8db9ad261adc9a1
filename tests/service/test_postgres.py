"""Jobs whose store is a PostgreSQL server, which dies in the middle of them; several servers of ours on one of it."""

from __future__ import annotations

import asyncio
import functools
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fettle.backends.api import Backend, Device
from fettle.graph.errors import StoreUnavailable
from fettle.search.jobs import run_job
from fettle.service import runner
from fettle.service.async_client import connect_async
from fettle.service.server import Server, ServerOptions
from fettle.store.jobs import JobState
from fettle.store.lookup import lookup
from fettle.store.open import open_store
from tests.postgres import Postgres, fresh_schema, own_server
from tests.search.synthetic import DEVICE, SyntheticBackend, SyntheticExecutor, workload
from tests.service.paper import Steps, matmul, resolve_paper
from tests.service.test_process import process
from tests.service.waiting import collect
from tests.store.samples import ARTIFACT, kernel, spec


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with own_server() as server:
        yield server


@pytest.fixture
def url(database: Postgres, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    monkeypatch.setenv("FETTLE_ARTIFACTS", str(tmp_path / "artifacts"))
    with fresh_schema(database.url) as fresh:
        yield fresh


async def test_database_that_crashes_in_the_middle_of_a_job_costs_no_trial_and_no_event(
    database: Postgres, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_RETRY_SECONDS", (0.1,))
    backend = SyntheticBackend()
    crashes = iter([True])

    def crash(number: int) -> None:
        if number == 13 and next(crashes, False):
            database.crash()
            threading.Timer(0.3, database.start).start()

    def executor(_: Backend, device: Device) -> SyntheticExecutor:
        return SyntheticExecutor(backend, after_trial=crash)

    run = functools.partial(run_job, backend=backend, executor_factory=executor)
    options = ServerOptions("127.0.0.1:0", grace=1.0)
    with open_store(url) as store:
        async with (
            Server(store, run, resolve=lambda text: (backend, DEVICE), options=options) as server,
            connect_async(str(server.address)) as client,
        ):
            job = await client.submit(workloads=[(workload(), 1)], device="synthetic", trials=24)
            events = [event async for event in client.watch(job.id)]
        finished = store.get_job(job.id)
        assert (finished.state, finished.trials, finished.error) == (JobState.DONE, 24, "")
        stored = store.events(job.id)
        assert [(e.number, e.time, e.kind) for e in events] == [(e.number, e.time, e.kind) for e in stored]
        assert [e.data["state"] for e in events if e.kind == "state"].count("running") == 2
        assert sum(e.kind == "trial" for e in events) == 24


def test_restarted_database_forgets_claims_and_their_holder_learns_of_it(database: Postgres, url: str) -> None:
    with open_store(url) as store, open_store(url) as other:
        job, _ = store.create_job(spec())
        with store.claim_job(job.id) as held:
            database.crash()
            database.start()
            with pytest.raises(StoreUnavailable, match="cannot be reached"):
                held()
            with other.claim_job(job.id):
                pass


async def test_job_of_a_killed_server_goes_on_in_another_server(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_LOOK_AGAIN", 0.05)
    steps = Steps(100)
    options = ServerOptions("127.0.0.1:0", grace=1.0)
    with process("127.0.0.1:0", url, steps.trials) as (first, address), open_store(url) as store:
        async with (
            Server(store, steps, resolve=resolve_paper, options=options, poll=0.1) as second,
            connect_async(address) as client,
            connect_async(str(second.address)) as other,
        ):
            job = await client.submit(workloads=[(matmul(), 1)], device="paper")
            async for event in client.watch(job.id):
                if event.kind == "trial":
                    break
            assert (await other.submit(workloads=[(matmul(), 1)], device="paper")).id == job.id
            watcher = asyncio.create_task(collect(other, job.id))
            assert steps.started == []
            first.send_signal(signal.SIGKILL)
            seen = await watcher
        assert steps.started == [job.id]
        assert store.get_job(job.id).state is JobState.DONE
        assert seen == list(store.events(job.id))
    assert [event.data["trial"] for event in seen if event.kind == "trial"] == list(range(1, steps.trials + 1))


def test_lookups_and_writes_at_once_both_come_through(url: str) -> None:
    with open_store(url) as store:
        job, _ = store.create_job(spec())
        store.put_artifact(ARTIFACT)
        best = kernel()
        store.put_kernel(best)

        def read(_: int) -> int:
            return sum(lookup(store, best.workload, best.device).match == "exact" for _ in range(30))

        def write(number: int) -> int:
            for i in range(30):
                store.append_event(job.id, "state", {"process": number, "i": i})
                store.put_kernel(best)
            return 30

        with ThreadPoolExecutor(8) as threads:
            done = [*threads.map(read, range(4)), *threads.map(write, range(4))]
        assert done == [30] * 8
        assert [event.number for event in store.events(job.id)] == list(range(1, 121))


def test_jobs_of_the_same_workloads_in_another_order_do_not_lock_each_other_out(url: str) -> None:
    pairs = [(workload(64 * n), 1) for n in range(1, 30)]

    with open_store(url) as store:

        def submit(number: int) -> str:
            ordered = tuple(pairs if number % 2 else reversed(pairs))
            return store.create_job(spec(number, workloads=ordered))[0].id

        with ThreadPoolExecutor(4) as threads:
            assert len(set(threads.map(submit, range(8)))) == 8
