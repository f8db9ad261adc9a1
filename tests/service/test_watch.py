"""Watching jobs: from any event, by any number of clients, across lost connections."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from collections.abc import Iterator

import grpc
import pytest

from fettle.graph.errors import Cancelled, InvalidArgument, NotFound, Unavailable
from fettle.service.async_client import AsyncClient, connect_async
from fettle.service.client import Client, connect
from fettle.service.server import Server, ServerOptions
from fettle.service.streams import Watch
from fettle.store.api import Store
from fettle.store.jobs import JobState
from fettle.v1 import tuning_pb2, tuning_pb2_grpc
from tests.service.paper import Steps, matmul, resolve_paper
from tests.service.waiting import collect, eventually


async def test_two_watchers_from_different_events_see_what_the_store_has(
    server: Server, client: AsyncClient, store: Store, steps: Steps
) -> None:
    steps.gated = True
    job = await client.submit(workloads=[(matmul(), 1)], device="paper")
    steps.permits.release()
    await eventually(lambda: len(store.events(job.id)) == 3)
    async with connect_async(str(server.address)) as late:
        everything = asyncio.create_task(collect(client, job.id))
        from_the_third = asyncio.create_task(collect(late, job.id, after=2))
        await eventually(lambda: server.hub.watchers == 2)
        steps.permits.release(10)
        stored = list(store.events(job.id)) if await everything else []
        assert await everything == stored
        assert await from_the_third == stored[2:]
    assert [event.number for event in stored] == [1, 2, 3, 4, 5, 6]
    assert [event.kind for event in stored] == ["state", "state", "trial", "trial", "trial", "state"]


async def test_watching_a_finished_job_replays_it_and_ends(client: AsyncClient, store: Store) -> None:
    job = await client.submit(workloads=[(matmul(), 1)], device="paper")
    await client.wait(job.id)
    stored = list(store.events(job.id))
    assert await collect(client, job.id) == stored
    assert await collect(client, job.id, after=stored[-1].number) == []
    assert await collect(client, job.id, after=10**9) == []


async def test_more_events_than_one_read_of_the_store_arrive_in_order(client: AsyncClient, store: Store) -> None:
    job = await client.submit(workloads=[(matmul(), 1)], device="paper")
    finished = await client.wait(job.id)
    assert finished.state is JobState.DONE
    store.move_job(job.id, [JobState.DONE], JobState.RUNNING)
    first = len(store.events(job.id))
    for index in range(2500):
        store.append_event(job.id, "phase", {"workload": "w", "phase": str(index)})
    store.append_event(job.id, "state", {"state": "failed", "error": "torn"})
    store.move_job(job.id, [JobState.RUNNING], JobState.FAILED)
    events = await collect(client, job.id, after=first)
    assert [e.data["phase"] for e in events[:-1]] == [str(index) for index in range(2500)]
    assert events[-1].data == {"state": "failed", "error": "torn"}


async def test_events_that_another_process_writes_are_noticed(client: AsyncClient, store: Store, steps: Steps) -> None:
    steps.gated = True
    job = await client.submit(workloads=[(matmul(), 1)], device="paper")
    watching = asyncio.create_task(collect(client, job.id))
    await asyncio.sleep(0.1)
    store.append_event(job.id, "phase", {"workload": "elsewhere", "phase": "search"})
    steps.permits.release(10)
    assert "elsewhere" in [event.data.get("workload") for event in await watching]


async def test_client_that_leaves_is_forgotten_and_the_server_goes_on(
    server: Server, client: AsyncClient, steps: Steps
) -> None:
    steps.gated = True
    job = await client.submit(workloads=[(matmul(), 1)], device="paper")
    async with grpc.aio.insecure_channel(str(server.address)) as channel:
        stub = tuning_pb2_grpc.TuningServiceStub(channel)  # type: ignore[no-untyped-call]
        calls = [stub.WatchJob(tuning_pb2.WatchJobRequest(job_id=job.id)) for _ in range(20)]
        for call in calls:
            assert (await call.read()).number == 1
        assert server.hub.watchers == 20
        for call in calls[:10]:
            call.cancel()
        await eventually(lambda: server.hub.watchers == 10)
    await eventually(lambda: server.hub.watchers == 0)  # the channel was closed under the others
    gc.collect()
    assert not [t for t in asyncio.all_tasks() if "WatchJob" in repr(t.get_coro())]
    steps.permits.release(10)
    assert (await client.wait(job.id)).state is JobState.DONE
    await eventually(lambda: server.hub.watchers == 0)


async def test_slow_watcher_does_not_hold_up_the_job_or_other_watchers(
    server: Server, client: AsyncClient, store: Store
) -> None:
    job = await client.submit(workloads=[(matmul(), 1)], device="paper")
    async with grpc.aio.insecure_channel(str(server.address)) as channel:
        stub = tuning_pb2_grpc.TuningServiceStub(channel)  # type: ignore[no-untyped-call]
        slow = stub.WatchJob(tuning_pb2.WatchJobRequest(job_id=job.id))
        await slow.read()
        assert (await client.wait(job.id)).state is JobState.DONE
        assert len(await collect(client, job.id)) == len(store.events(job.id))


async def test_unknown_job_and_negative_number_are_refused(client: AsyncClient) -> None:
    with pytest.raises(NotFound):
        await collect(client, "nowhere")
    with pytest.raises(InvalidArgument):
        await collect(client, "nowhere", after=-1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_watcher_sees_every_event_once_across_a_restart_of_the_server(store: Store) -> None:
    steps = Steps(trials=6)
    steps.gated = True
    options = ServerOptions(f"127.0.0.1:{free_port()}", grace=1.0, pause_grace=5.0)
    async with connect_async(options.listen) as client:
        async with Server(store, steps, resolve=resolve_paper, options=options):
            job = await client.submit(workloads=[(matmul(), 1)], device="paper")
            watching = asyncio.create_task(collect(client, job.id))
            steps.permits.release(3)
            await eventually(lambda: len(store.events(job.id)) == 5)
        await asyncio.sleep(0.3)
        assert not watching.done()
        async with Server(store, steps, resolve=resolve_paper, options=options):
            steps.permits.release(10)
            events = await asyncio.wait_for(watching, 20)
    assert events == list(store.events(job.id))
    assert [e.data["trial"] for e in events if e.kind == "trial"] == [1, 2, 3, 4, 5, 6]


async def test_watcher_gives_up_on_a_server_that_stays_away() -> None:
    async with connect_async(f"127.0.0.1:{free_port()}") as client:
        with pytest.raises(Unavailable, match="cannot be reached"):
            async for _ in client.watch("job", patience=0.3):
                pass


@pytest.mark.parametrize(
    ("after", "reached", "seconds"),
    [(0, False, 5.0), (0, True, 90.0), (3, False, 90.0)],
    ids=["strange", "met", "goes on"],
)
def test_only_an_address_that_never_answered_is_given_up_early(after: int, reached: bool, seconds: float) -> None:
    watch = Watch("job", after, patience=90.0, reached=reached)
    waited = 0.0
    with contextlib.suppress(Unavailable):
        while waited < 1000.0:
            waited += watch.seconds_to_reconnect(away())
    assert waited == pytest.approx(seconds)


def away() -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "no route")


# --------------------------------------------------------------------------------- the client without asyncio


@pytest.fixture
def sync_client(server: Server) -> Iterator[Client]:
    with connect(str(server.address)) as connected:
        yield connected


async def test_sync_client_does_the_same(sync_client: Client, store: Store) -> None:
    def use() -> None:
        job = sync_client.submit(workloads=[(matmul(), 1)], device="paper")
        assert list(sync_client.watch(job.id)) == list(store.events(job.id))
        assert sync_client.wait(job.id) == sync_client.job(job.id) == store.get_job(job.id)
        assert [found.id for found in sync_client.jobs()] == [job.id]
        again = sync_client.submit(workloads=[(matmul(), 1)], device="paper")
        assert again.id != job.id
        sync_client.wait(again.id)
        with pytest.raises(NotFound):
            sync_client.cancel("nowhere")
        with pytest.raises(NotFound):
            sync_client.resume("nowhere")

    await asyncio.to_thread(use)


async def test_sync_watcher_sees_every_event_once_across_a_restart(store: Store) -> None:
    steps = Steps(trials=4)
    steps.gated = True
    options = ServerOptions(f"127.0.0.1:{free_port()}", grace=1.0, pause_grace=5.0)
    with connect(options.listen) as client:
        async with Server(store, steps, resolve=resolve_paper, options=options):
            job = await asyncio.to_thread(client.submit, workloads=[(matmul(), 1)], device="paper")
            watching = asyncio.create_task(asyncio.to_thread(lambda: list(client.watch(job.id))))
            steps.permits.release(2)
            await eventually(lambda: len(store.events(job.id)) == 4)
        async with Server(store, steps, resolve=resolve_paper, options=options):
            steps.permits.release(10)
            events = await asyncio.wait_for(watching, 20)
    assert events == list(store.events(job.id))


async def test_closing_the_client_ends_its_watch(server: Server, steps: Steps) -> None:
    steps.gated = True
    client = connect(str(server.address))
    job = await asyncio.to_thread(client.submit, workloads=[(matmul(), 1)], device="paper")
    watching = asyncio.create_task(asyncio.to_thread(lambda: list(client.watch(job.id))))
    await eventually(lambda: server.hub.watchers == 1)
    client.close()
    with pytest.raises(Cancelled):
        await watching
    await eventually(lambda: server.hub.watchers == 0)
