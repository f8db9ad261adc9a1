"""What a client may ask of a server, said once for both clients: requests from values, values from responses."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypedDict, TypeVar

import attrs

from fettle.backends.api import Device, MeasurePolicy
from fettle.graph.errors import InvalidArgument, ResourceExhausted
from fettle.graph.workload import Workload
from fettle.service.channel import MAX_MESSAGE
from fettle.service.convert.jobs import budget_to_proto, job_from_proto, state_to_proto, workloads_to_proto
from fettle.service.convert.kernels import kernel_from_proto, lookup_from_proto, stats_from_proto
from fettle.service.convert.values import mode_to_proto, policy_to_proto, selector_to_proto
from fettle.store.api import Page, Stats
from fettle.store.jobs import Job, JobState
from fettle.store.kernels import Kernel
from fettle.store.lookup import LookupResult
from fettle.store.specs import Budget
from fettle.v1 import kernels_pb2, kernels_pb2_grpc, tuning_pb2, tuning_pb2_grpc

T = TypeVar("T")

SUBMIT_SECONDS = 120.0
"""Least deadline of a submission: importing a large graph takes a while."""

LOOKUPS_PER_CALL = 1000
"""What a server answers at most in one call."""


@attrs.frozen
class Call(Generic[T]):
    """One call not yet made.

    Attributes:
        method: of a stub; what it returns is awaited or not, as its channel is.
        request: the message to send.
        read: the value of the message that comes back.
        least_seconds: its deadline at least, in seconds.
    """

    method: Callable[..., Any]
    request: Any
    read: Callable[[Any], T]
    least_seconds: float = 0.0


class SubmitOptions(TypedDict, total=False):
    """How to tune what is submitted; see :meth:`Calls.submission` for what is meant by what is left out.

    Attributes:
        device: device text, resolved on the server's machine.
        trials: mean number of trials per distinct workload.
        seconds: wall-clock limit of the job.
        dims: values of the model's symbolic dimensions.
        seed: everything random follows from it.
        force: tune even what the cache has.
        mode: ``hot`` or ``cold``; ignored if there is a ``policy``.
        policy: how kernels are timed.
        title: shown to people.
        objectives: of ``latency``, ``energy`` and ``size``; with several, results have Pareto fronts.
    """

    device: str
    trials: int
    seconds: float | None
    dims: Mapping[str, int] | None
    seed: int
    force: bool
    mode: str
    policy: MeasurePolicy | None
    title: str
    objectives: Sequence[str]


@attrs.frozen
class Submission:
    """Answer to a submission.

    Attributes:
        job: the job that does the work.
        joined: identical work was already in flight.
        left_out: (name, reason) of the graph's nodes that no kernel is made for.
    """

    job: Job
    joined: bool
    left_out: tuple[tuple[str, str], ...] = ()


class Calls:
    """The calls of one channel. Their arguments are described where the clients have methods of the same names.

    Attributes:
        reached: a call was answered, so there is a server at the address.
    """

    def __init__(self, channel: Any) -> None:
        self.reached = False
        self.tuning: Any = tuning_pb2_grpc.TuningServiceStub(channel)  # type: ignore[no-untyped-call]
        self.kernels: Any = kernels_pb2_grpc.KernelServiceStub(channel)  # type: ignore[no-untyped-call]

    def submission(
        self,
        graph: bytes | None,
        workloads: Sequence[tuple[Workload, int]],
        *,
        device: str = "cpu",
        trials: int = 64,
        seconds: float | None = None,
        dims: Mapping[str, int] | None = None,
        seed: int = 0,
        force: bool = False,
        mode: str = "hot",
        policy: MeasurePolicy | None = None,
        title: str = "",
        objectives: Sequence[str] = ("latency",),
    ) -> Call[Submission]:
        """A submission with a fresh request id, so that it may be sent twice.

        Raises:
            InvalidArgument: not exactly one of graph and workloads, dims of workloads, or a number beyond 64 bits.
            ResourceExhausted: it is larger than a message.
        """
        if (graph is None) == (not workloads):
            raise InvalidArgument("a submission needs either a graph or workloads")
        if workloads and dims:
            raise InvalidArgument("dims are those of a graph", hint="workloads have their sizes in them")
        try:
            request = tuning_pb2.SubmitJobRequest(
                device=device,
                budget=budget_to_proto(Budget(trials, seconds)),
                policy=policy_to_proto(policy or MeasurePolicy(mode=mode)),
                seed=seed,
                force=force,
                title=title,
                objectives=objectives,
                request_id=uuid.uuid4().hex,
            )
            if graph is not None:
                request.graph.CopyFrom(tuning_pb2.Graph(onnx=graph, dims=dims))
            else:
                request.workloads.CopyFrom(tuning_pb2.WorkloadCounts(workloads=workloads_to_proto(tuple(workloads))))
        except (ValueError, TypeError) as error:
            raise InvalidArgument(f"the submission has a value the wire cannot carry: {error}") from error
        if request.ByteSize() > MAX_MESSAGE:
            raise ResourceExhausted(
                f"a submission of {request.ByteSize():,} B is larger than a message ({MAX_MESSAGE:,} B)",
                hint="weights need not be sent: fettle.graph.onnx_import.without_weights(path) leaves them out",
            )
        return Call(self.tuning.SubmitJob, request, _submission_from_proto, SUBMIT_SECONDS)

    def job(self, job_id: str) -> Call[Job]:
        return Call(self.tuning.GetJob, tuning_pb2.GetJobRequest(job_id=job_id), job_from_proto)

    def page(self, states: Sequence[JobState], page_size: int, token: str) -> Call[Page]:
        """One page of jobs; ``token`` is what the page before it ended with."""
        wanted = [state_to_proto(state) for state in states]
        request = tuning_pb2.ListJobsRequest(page_size=page_size, page_token=token, states=wanted)
        return Call(self.tuning.ListJobs, request, _page_from_proto)

    def cancel(self, job_id: str) -> Call[Job]:
        return Call(self.tuning.CancelJob, tuning_pb2.CancelJobRequest(job_id=job_id), job_from_proto)

    def resume(self, job_id: str) -> Call[Job]:
        return Call(self.tuning.ResumeJob, tuning_pb2.ResumeJobRequest(job_id=job_id), job_from_proto)

    def lookup(self, workload: Workload, device: Device | str, mode: str) -> Call[LookupResult]:
        request = kernels_pb2.LookupRequest(
            workload=str(workload), device=selector_to_proto(device), mode=mode_to_proto(mode)
        )
        return Call(self.kernels.Lookup, request, lookup_from_proto)

    def batch_lookups(
        self, workloads: Sequence[Workload], device: Device | str, mode: str
    ) -> Iterator[Call[list[LookupResult]]]:
        """As many calls as it takes, in the order of the workloads."""
        texts = [str(workload) for workload in workloads]
        for start in range(0, len(texts), LOOKUPS_PER_CALL):
            request = kernels_pb2.BatchLookupRequest(
                workloads=texts[start : start + LOOKUPS_PER_CALL],
                device=selector_to_proto(device),
                mode=mode_to_proto(mode),
            )
            yield Call(self.kernels.BatchLookup, request, _lookups_from_proto)

    def cached(self, device: Device | str | None, operator: str, limit: int) -> Call[tuple[Kernel, ...]]:
        request = kernels_pb2.ListKernelsRequest(operator=operator, limit=limit)
        if device is not None:
            request.device.CopyFrom(selector_to_proto(device))
        return Call(self.kernels.ListKernels, request, _kernels_from_proto)

    def stats(self) -> Call[Stats]:
        return Call(self.kernels.GetStats, kernels_pb2.GetStatsRequest(), stats_from_proto)


def _submission_from_proto(message: tuning_pb2.SubmitJobResponse) -> Submission:
    left_out = tuple((node.name, node.reason) for node in message.unsupported)
    return Submission(job_from_proto(message.job), message.joined, left_out)


def _page_from_proto(message: tuning_pb2.ListJobsResponse) -> Page:
    return Page(tuple(map(job_from_proto, message.jobs)), message.next_page_token)


def _lookups_from_proto(message: kernels_pb2.BatchLookupResponse) -> list[LookupResult]:
    return [lookup_from_proto(result) for result in message.results]


def _kernels_from_proto(message: kernels_pb2.ListKernelsResponse) -> tuple[Kernel, ...]:
    return tuple(map(kernel_from_proto, message.kernels))
