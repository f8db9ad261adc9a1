"""Submitting, listing, cancelling and resuming jobs over the wire."""

from __future__ import annotations

import asyncio

import pytest

from fettle.backends.api import MeasurePolicy
from fettle.graph.errors import Conflict, InvalidArgument, InvalidDevice, InvalidWorkload, NotFound, Unsupported
from fettle.graph.workload import Workload
from fettle.service.async_client import AsyncClient, connect_async
from fettle.service.server import Server, ServerOptions
from fettle.store.api import Store
from fettle.store.jobs import Job, JobState
from fettle.store.specs import Budget, JobSpec
from fettle.v1 import tuning_pb2
from tests.service.paper import PAPER, Steps, matmul, resolve_paper
from tests.service.raw import send
from tests.service.waiting import collect, eventually

OPTIONS = ServerOptions("127.0.0.1:0", grace=1.0, pause_grace=5.0)
DEVICE = PAPER.devices()[0]


def spec(seed: int = 0) -> JobSpec:
    return JobSpec(((matmul(), 1),), DEVICE, "paper", seed=seed)


async def test_submitted_job_is_run_and_comes_back_as_stored(client: AsyncClient, store: Store) -> None:
    submitted = await client.submit(
        workloads=[(matmul(), 2), (matmul(128), 1), (matmul(), 3)],
        device="paper,threads=1",
        trials=7,
        seconds=2.5,
        seed=3,
        force=True,
        policy=MeasurePolicy("cold", samples=5),
        title="two products",
    )
    assert submitted.state is JobState.QUEUED
    finished = await client.wait(submitted.id)
    assert finished == store.get_job(submitted.id)
    assert finished.state is JobState.DONE
    assert finished.spec == JobSpec(
        workloads=((matmul(), 5), (matmul(128), 1)),
        device=resolve_paper("paper,threads=1")[1],
        device_text="paper,threads=1",
        budget=Budget(7, 2.5),
        policy=MeasurePolicy("cold", samples=5),
        seed=3,
        force=True,
        title="two products",
    )
    assert [result.workload for result in finished.results] == [matmul(), matmul(128)]
    assert finished.best_s == pytest.approx(5 * 1e-3 + 1e-3)


async def test_title_defaults_to_the_workload(client: AsyncClient) -> None:
    assert (await client.submit(workloads=[(matmul(), 1)], device="paper")).spec.title == str(matmul())
    two = await client.submit(workloads=[(matmul(), 1), (matmul(128), 1)], device="paper")
    assert two.spec.title == "2 workloads"


async def test_identical_work_in_flight_joins_the_running_job(client: AsyncClient, steps: Steps) -> None:
    steps.gated = True
    first = await client.submission(workloads=[(matmul(), 1)], device="paper")
    second = await client.submission(workloads=[(matmul(), 1)], device="paper")
    other = await client.submission(workloads=[(matmul(), 1)], device="paper", seed=1)
    assert (first.joined, second.joined, other.joined) == (False, True, False)
    assert first.job.id == second.job.id != other.job.id
    steps.gated = False
    await client.wait(other.job.id)
    assert steps.started == [first.job.id, other.job.id]


async def test_repeated_request_id_returns_the_first_job_even_when_it_is_final(
    client: AsyncClient, steps: Steps
) -> None:
    stub = client._calls.tuning
    request = tuning_pb2.SubmitJobRequest(device="paper", request_id="once")
    request.workloads.workloads.add(workload=str(matmul()), count=1)
    first = await stub.SubmitJob(request)
    await client.wait(first.job.id)
    again = await stub.SubmitJob(request)
    assert again.job.id == first.job.id
    assert again.joined
    assert again.job.state == tuning_pb2.JOB_STATE_DONE
    request.request_id = "twice"
    assert (await stub.SubmitJob(request)).job.id != first.job.id


async def test_jobs_run_one_after_the_other_in_order_of_submission(client: AsyncClient, steps: Steps) -> None:
    jobs = [await client.submit(workloads=[(matmul(), 1)], device="paper", seed=seed) for seed in range(4)]
    for job in jobs:
        await client.wait(job.id)
    assert steps.started == [job.id for job in jobs]


async def test_listing_pages_through_all_jobs_newest_first(client: AsyncClient, store: Store) -> None:
    made = [store.create_job(spec(seed))[0].id for seed in range(7)]
    store.move_job(made[2], [JobState.QUEUED], JobState.FAILED, "torn")
    stub = client._calls.tuning
    pages: list[list[str]] = []
    token = ""
    while True:
        page = await stub.ListJobs(tuning_pb2.ListJobsRequest(page_size=3, page_token=token))
        pages.append([job.id for job in page.jobs])
        token = page.next_page_token
        if not token:
            break
    assert [len(page) for page in pages] == [3, 3, 1]
    assert [job_id for page in pages for job_id in page] == made[::-1]
    assert [job.id async for job in client.jobs(page_size=2)] == made[::-1]
    failed = [job async for job in client.jobs(states=[JobState.FAILED])]
    assert [(job.id, job.error) for job in failed] == [(made[2], "torn")]


async def test_bad_page_tokens_and_sizes_are_refused(client: AsyncClient) -> None:
    stub = client._calls.tuning
    for request in (
        tuning_pb2.ListJobsRequest(page_token="forged"),
        tuning_pb2.ListJobsRequest(page_size=-1),
        tuning_pb2.ListJobsRequest(page_size=1001),
        tuning_pb2.ListJobsRequest(states=[99]),
        tuning_pb2.ListJobsRequest(states=[0]),
    ):
        with pytest.raises(InvalidArgument):
            await send(client, stub.ListJobs, request)


async def test_cancelled_running_job_stops_between_two_trials(
    client: AsyncClient, steps: Steps, server: Server
) -> None:
    steps.gated = True
    job = await client.submit(workloads=[(matmul(), 1)], device="paper")
    steps.permits.release()
    watched = client.watch(job.id)
    async for event in watched:
        if event.kind == "trial":
            break
    await watched.aclose()
    answer = await client.cancel(job.id)
    assert answer.cancel_requested
    assert (await client.wait(job.id)).state is JobState.CANCELLED
    assert server.manager.running is None
    with pytest.raises(Conflict):
        await client.cancel(job.id)
    with pytest.raises(Conflict):
        await client.resume(job.id)


async def test_cancelled_queued_job_never_starts_and_its_watcher_ends(client: AsyncClient, steps: Steps) -> None:
    steps.gated = True
    running = await client.submit(workloads=[(matmul(), 1)], device="paper")
    queued = await client.submit(workloads=[(matmul(), 1)], device="paper", seed=1)
    watching = asyncio.create_task(collect(client, queued.id))
    await asyncio.sleep(0.05)
    assert (await client.cancel(queued.id)).state is JobState.CANCELLED
    events = await asyncio.wait_for(watching, 5)
    assert [event.data["state"] for event in events] == ["queued", "cancelled"]
    steps.gated = False
    await client.wait(running.id)
    assert steps.started == [running.id]


async def test_cancel_put_into_the_store_by_another_process_is_obeyed(
    client: AsyncClient, store: Store, steps: Steps
) -> None:
    steps.gated = True
    job = await client.submit(workloads=[(matmul(), 1)], device="paper")
    await eventually(lambda: store.get_job(job.id).state is JobState.RUNNING)
    store.request_cancel(job.id)
    assert (await client.wait(job.id)).state is JobState.CANCELLED


async def test_stopped_server_pauses_its_job_and_the_next_one_finishes_it(store: Store) -> None:
    steps = Steps(trials=4)
    steps.gated = True
    async with Server(store, steps, resolve=resolve_paper, options=OPTIONS) as server:
        async with connect_async(str(server.address)) as client:
            job = await client.submit(workloads=[(matmul(), 1)], device="paper")
            waiting = await client.submit(workloads=[(matmul(), 1)], device="paper", seed=1)
        steps.permits.release(2)
        await eventually(lambda: sum(e.kind == "trial" for e in store.events(job.id)) == 2)
    assert store.get_job(job.id).state is JobState.PAUSED
    assert store.get_job(waiting.id).state is JobState.QUEUED
    steps.gated = False
    async with (
        Server(store, steps, resolve=resolve_paper, options=OPTIONS) as server,
        connect_async(str(server.address)) as client,
    ):
        assert (await client.wait(job.id)).state is JobState.DONE
        assert (await client.wait(waiting.id)).state is JobState.DONE
    assert steps.started == [job.id, job.id, waiting.id]
    assert [e.data["trial"] for e in store.events(job.id) if e.kind == "trial"] == [1, 2, 3, 4]
    states = [e.data["state"] for e in store.events(job.id) if e.kind == "state"]
    assert states == ["queued", "running", "paused", "queued", "running", "done"]


async def test_paused_job_can_be_resumed_by_hand(client: AsyncClient, store: Store) -> None:
    job, _ = store.create_job(spec())
    store.move_job(job.id, [JobState.QUEUED], JobState.PAUSED)
    assert (await client.resume(job.id)).state is not JobState.PAUSED
    assert (await client.wait(job.id)).state is JobState.DONE


async def test_job_whose_code_breaks_fails_with_its_reason_and_the_next_one_runs(store: Store) -> None:
    steps = Steps()

    def run(store: Store, job_id: str, **events) -> Job:  # type: ignore[no-untyped-def]
        if not steps.started:
            steps.started.append(job_id)
            raise RuntimeError("paper jam")
        return steps(store, job_id, **events)

    async with (
        Server(store, run, resolve=resolve_paper, options=OPTIONS) as server,
        connect_async(str(server.address)) as client,
    ):
        broken = await client.submit(workloads=[(matmul(), 1)], device="paper")
        next_one = await client.submit(workloads=[(matmul(), 1)], device="paper", seed=1)
        failed = await client.wait(broken.id)
        assert (failed.state, failed.error) == (JobState.FAILED, "RuntimeError: paper jam")
        assert (await client.wait(next_one.id)).state is JobState.DONE


async def test_server_answers_while_a_job_blocks_its_thread(client: AsyncClient, steps: Steps) -> None:
    steps.gated = True
    job = await client.submit(workloads=[(matmul(), 1)], device="paper")
    await eventually(lambda: bool(steps.started))
    answers = await asyncio.wait_for(asyncio.gather(*(client.job(job.id) for _ in range(100))), 10)
    assert {answer.state for answer in answers} == {JobState.RUNNING}
    assert steps.threads == {f"job {job.id}"}


async def test_malformed_submissions_are_refused_with_the_field_at_fault(client: AsyncClient) -> None:
    with pytest.raises(InvalidDevice):
        await client.submit(workloads=[(matmul(), 1)], device="stone")
    with pytest.raises(InvalidArgument, match="trials"):
        await client.submit(workloads=[(matmul(), 1)], device="paper", trials=0)
    for seconds in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(InvalidArgument, match="time limit"):
            await client.submit(workloads=[(matmul(), 1)], device="paper", seconds=seconds)
    with pytest.raises(InvalidArgument, match="either a graph or workloads"):
        await client.submit(device="paper")
    with pytest.raises(InvalidArgument, match="dims are those of a graph"):
        await client.submit(workloads=[(matmul(), 1)], device="paper", dims={"batch": 2})
    with pytest.raises(InvalidArgument, match="wire"):
        await client.submit(workloads=[(matmul(), 1)], device="paper", seed=2**64)
    with pytest.raises(InvalidArgument) as refused:
        await client.submit(workloads=[(matmul(), -1)], device="paper")
    assert refused.value.details["field"] == "workloads.count"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "matmul",
        "matmul m=1 n=99999999999999999999 k=64 act=f32 weight=u4:32",
        "matmul m=2147483647 n=2147483647 k=2147483647 act=f32 weight=u4:32",
        "matmul m=1 n=0 k=64 act=f32 weight=u4:32",
        "origami folds=7",
        "matmul " + "m=1 " * 5000,
    ],
)
async def test_absurd_workloads_are_refused(client: AsyncClient, text: str) -> None:
    request = tuning_pb2.SubmitJobRequest(device="paper")
    request.workloads.workloads.add(workload=text)
    with pytest.raises(InvalidWorkload):
        await send(client, client._calls.tuning.SubmitJob, request)


async def test_work_the_device_cannot_do_at_all_is_refused_with_the_reason(client: AsyncClient) -> None:
    softmax = Workload.of("softmax", rows=8, cols=32, act="f32")
    with pytest.raises(Unsupported, match="paper cannot do softmax"):
        await client.submit(workloads=[(softmax, 1)], device="paper")
    job = await client.submit(workloads=[(softmax, 1), (matmul(), 1)], device="paper")
    assert (await client.wait(job.id)).state is JobState.DONE


async def test_unknown_jobs_are_not_found(client: AsyncClient) -> None:
    for call in (client.job, client.cancel, client.resume, client.wait):
        with pytest.raises(NotFound, match="nowhere"):
            await call("nowhere")
