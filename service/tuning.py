"""TuningService: thin handlers over the store, the job manager and the event hub."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable

import attrs
import grpc

from fettle.backends.api import Backend, Device
from fettle.graph.errors import InvalidArgument, InvalidGraph, Unsupported
from fettle.graph.graph import GraphNode
from fettle.service.convert.events import event_to_proto
from fettle.service.convert.jobs import (
    Counted,
    budget_from_proto,
    job_to_proto,
    jobs_to_proto,
    objectives_from_proto,
    state_from_proto,
    workloads_from_proto,
)
from fettle.service.convert.values import policy_from_request
from fettle.service.runner import JobManager
from fettle.service.watch import EventHub
from fettle.store.api import Store
from fettle.store.specs import JobSpec
from fettle.v1 import tuning_pb2 as pb
from fettle.v1 import tuning_pb2_grpc

Resolve = Callable[[str], tuple[Backend, Device]]
"""A device text to its backend and device; see :func:`fettle.backends.registry.resolve_device`."""

MAX_PAGE = 1000
MAX_TEXT = 4096
_DEFAULT_PAGE = 50
_REMEMBERED_REQUESTS = 10_000


@attrs.frozen
class _Plan:
    spec: JobSpec
    left_out: tuple[GraphNode, ...] = ()


class TuningServicer(tuning_pb2_grpc.TuningServiceServicer):
    """Errors raised here become statuses in :mod:`fettle.service.interceptor`."""

    def __init__(self, store: Store, manager: JobManager, hub: EventHub, resolve: Resolve) -> None:
        self._store = store
        self._manager = manager
        self._hub = hub
        self._resolve = resolve
        self._requests: OrderedDict[str, str] = OrderedDict()
        self._planning = asyncio.Semaphore(2)  # imports of large graphs must not take all threads

    async def SubmitJob(  # noqa: N802
        self, request: pb.SubmitJobRequest, context: grpc.aio.ServicerContext[pb.SubmitJobRequest, pb.SubmitJobResponse]
    ) -> pb.SubmitJobResponse:
        """Queue work.

        1. A request id seen before: answer with the job it made.
        2. Import the graph or parse the workloads, resolve the device, check limits (off the event loop).
        3. Create the job; identical work in flight gives that job instead.
        4. A job that waits nowhere joins the queue. What the cache has already, the job takes from there.
        """
        known = self._requests.get(request.request_id) if request.request_id else None
        if known is not None:
            job = await asyncio.to_thread(self._store.get_job, known)
            return pb.SubmitJobResponse(job=job_to_proto(job), joined=True)
        async with self._planning:
            plan = await asyncio.to_thread(self._plan, request)
        job, created = await asyncio.to_thread(self._store.create_job, plan.spec)
        if request.request_id:
            self._requests[request.request_id] = job.id
            while len(self._requests) > _REMEMBERED_REQUESTS:
                self._requests.popitem(last=False)
        if created:
            await self._manager.announce(job.id, job.state)
        await self._manager.enqueue(job)
        return pb.SubmitJobResponse(
            job=job_to_proto(job),
            joined=not created,
            unsupported=[pb.UnsupportedNode(name=node.name, reason=node.reason) for node in plan.left_out],
        )

    async def GetJob(  # noqa: N802
        self, request: pb.GetJobRequest, context: grpc.aio.ServicerContext[pb.GetJobRequest, pb.Job]
    ) -> pb.Job:
        """The job as stored."""
        return job_to_proto(await asyncio.to_thread(self._store.get_job, request.job_id))

    async def ListJobs(  # noqa: N802
        self, request: pb.ListJobsRequest, context: grpc.aio.ServicerContext[pb.ListJobsRequest, pb.ListJobsResponse]
    ) -> pb.ListJobsResponse:
        """One page, newest first."""
        if not 0 <= request.page_size <= MAX_PAGE:
            raise InvalidArgument(
                f"page_size must be between 1 and {MAX_PAGE}, not {request.page_size}", details={"field": "page_size"}
            )
        states = tuple(state_from_proto(number, "states") for number in request.states)
        page = await asyncio.to_thread(
            self._store.list_jobs, request.page_size or _DEFAULT_PAGE, request.page_token, states
        )
        return pb.ListJobsResponse(jobs=jobs_to_proto(page.jobs), next_page_token=page.next_token)

    async def WatchJob(  # noqa: N802
        self, request: pb.WatchJobRequest, context: grpc.aio.ServicerContext[pb.WatchJobRequest, pb.JobEvent]
    ) -> None:
        """Stream events; see :meth:`EventHub.watch`. A client that leaves cancels this coroutine."""
        if request.after_event < 0:
            raise InvalidArgument("after_event is negative", details={"field": "after_event"})
        async with contextlib.aclosing(self._hub.watch(request.job_id, request.after_event)) as events:
            async for event in events:
                await context.write(event_to_proto(event))

    async def CancelJob(  # noqa: N802
        self, request: pb.CancelJobRequest, context: grpc.aio.ServicerContext[pb.CancelJobRequest, pb.Job]
    ) -> pb.Job:
        """See :meth:`JobManager.cancel`."""
        return job_to_proto(await self._manager.cancel(request.job_id))

    async def ResumeJob(  # noqa: N802
        self, request: pb.ResumeJobRequest, context: grpc.aio.ServicerContext[pb.ResumeJobRequest, pb.Job]
    ) -> pb.Job:
        """See :meth:`JobManager.resume`."""
        return job_to_proto(await self._manager.resume(request.job_id))

    def _plan(self, request: pb.SubmitJobRequest) -> _Plan:
        """The job a request describes. Runs in a thread: importing a graph takes seconds."""
        for name in ("device", "title", "request_id"):
            if len(getattr(request, name)) > MAX_TEXT:
                raise InvalidArgument(f"{name} is longer than {MAX_TEXT} characters", details={"field": name})
        if not request.device:
            raise InvalidArgument("no device is given", hint="example: cpu", details={"field": "device"})
        budget = budget_from_proto(request.budget)
        policy = policy_from_request(request.policy)
        backend, device = self._resolve(request.device)
        match request.WhichOneof("work"):
            case "graph":
                workloads, left_out, title = _import(request.graph)
            case "workloads":
                workloads, left_out = workloads_from_proto(request.workloads.workloads), ()
                title = str(workloads[0][0]) if len(workloads) == 1 else f"{len(workloads)} workloads"
            case _:
                raise InvalidArgument("neither a graph nor workloads are given", details={"field": "work"})
        refusals = [s for workload, _ in workloads if not (s := backend.supports(workload, device))]
        if len(refusals) == len(workloads):
            raise Unsupported(f"{device} can tune none of this: {refusals[0].reason}", details={"device": str(device)})
        spec = JobSpec(
            workloads,
            device,
            request.device,
            budget,
            policy,
            request.seed,
            request.force,
            request.title or title,
            objectives_from_proto(request.objectives),
        )
        return _Plan(spec, left_out)


def _import(graph: pb.Graph) -> tuple[Counted, tuple[GraphNode, ...], str]:
    """Workloads of a model, the nodes that have none, and its name.

    Raises:
        InvalidGraph: not a model, or nothing in it can be tuned.
    """
    from fettle.graph.onnx_import import import_model

    imported = import_model(graph.onnx, dict(graph.dims)).graph
    workloads, left_out = imported.workloads(), imported.unsupported()
    if not workloads:
        reasons = "; ".join(f"{node.name}: {node.reason}" for node in left_out[:5])
        raise InvalidGraph("the model has no operator fettle can tune", hint=reasons)
    return workloads, left_out, imported.name or "model"
