"""The service with the real tuner on a synthetic device: submit, watch, look up, fetch."""

from __future__ import annotations

import functools

from fettle.backends.api import Backend, Device
from fettle.search.jobs import run_job
from fettle.service.async_client import connect_async
from fettle.service.server import Server, ServerOptions
from fettle.store.api import Store
from fettle.store.jobs import JobState
from tests.search.synthetic import DEVICE, SyntheticBackend, SyntheticExecutor, workload


async def test_tuned_kernel_is_found_and_fetched_and_the_second_job_is_served_from_the_cache(store: Store) -> None:
    backend = SyntheticBackend()

    def executor(backend_: Backend, device: Device) -> SyntheticExecutor:
        return SyntheticExecutor(backend)

    run = functools.partial(run_job, backend=backend, executor_factory=executor)
    options = ServerOptions("127.0.0.1:0", grace=1.0)
    async with (
        Server(store, run, resolve=lambda text: (backend, DEVICE), options=options) as server,
        connect_async(str(server.address)) as client,
    ):
        assert (await client.lookup(workload(), "synthetic")).match == "none"
        job = await client.submit(workloads=[(workload(), 3)], device="synthetic", trials=12)
        events = [event async for event in client.watch(job.id)]
        finished = await client.job(job.id)
        assert finished.state is JobState.DONE
        assert finished.trials == 12
        kinds = [event.kind for event in events]
        assert kinds.count("trial") == 12
        assert kinds.count("result") == 1
        assert [e.number for e in events] == list(range(1, len(events) + 1))
        trial = next(event for event in events if event.kind == "trial").data
        assert set(trial) == {
            *("workload", "trial", "trials", "outcome", "seconds", "best_s", "failed"),
            *("schedule", "eta_s", "done", "total"),
        }

        found = await client.lookup(workload(), DEVICE)
        assert found.match == "exact"
        assert found.kernel is not None
        assert found.kernel.schedule == finished.results[0].schedule
        artifact = await client.artifact(found.kernel.artifact_sha256)
        assert artifact.schedule == found.kernel.schedule

        again = await client.wait((await client.submit(workloads=[(workload(), 3)], device="synthetic", trials=12)).id)
        assert again.id != job.id
        assert again.trials == 0
        assert again.results[0].cached
        assert again.best_s == finished.best_s
