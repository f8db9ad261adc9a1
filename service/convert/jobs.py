"""Jobs and their specifications."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fettle.graph.errors import InvalidArgument
from fettle.graph.workload import Workload
from fettle.service.convert.results import result_from_proto, result_to_proto
from fettle.service.convert.values import (
    device_from_proto,
    device_to_proto,
    enum_from_proto,
    enum_to_proto,
    policy_from_proto,
    policy_to_proto,
)
from fettle.store.jobs import Job, JobState
from fettle.store.specs import Budget, JobSpec
from fettle.v1 import tuning_pb2

MAX_WORKLOADS = 10_000
MAX_COUNT = 2**31 - 1

Counted = tuple[tuple[Workload, int], ...]


def state_to_proto(state: JobState) -> tuning_pb2.JobState:
    number: tuning_pb2.JobState = enum_to_proto(tuning_pb2.JobState, "JOB_STATE", state)
    return number


def state_from_proto(number: int, field: str = "state") -> JobState:
    return enum_from_proto(tuning_pb2.JobState, "JOB_STATE", JobState, number, field)


def workloads_to_proto(workloads: Counted) -> list[tuning_pb2.WorkloadCount]:
    """Raises InvalidArgument if one has no count."""
    if any(isinstance(pair, Workload) for pair in workloads):  # Python callers pass anything
        raise InvalidArgument("a workload is submitted with its count", hint="write workloads=[(workload, 1)]")
    return [tuning_pb2.WorkloadCount(workload=str(workload), count=count) for workload, count in workloads]


def workloads_from_proto(messages: Sequence[tuning_pb2.WorkloadCount]) -> Counted:
    """Distinct workloads in order of first occurrence; counts of repeated ones add up.

    Raises:
        InvalidArgument: none, too many, or a count out of range.
        InvalidWorkload: a malformed text.
    """
    if not 1 <= len(messages) <= MAX_WORKLOADS:
        raise InvalidArgument(
            f"{len(messages)} workloads; between 1 and {MAX_WORKLOADS} are needed", details={"field": "workloads"}
        )
    counts: dict[Workload, int] = {}
    for message in messages:
        count = message.count or 1
        if not 1 <= count <= MAX_COUNT:
            raise InvalidArgument(
                f"count {count} of {message.workload!r} is out of range", details={"field": "workloads.count"}
            )
        workload = Workload.parse(message.workload)
        counts[workload] = counts.get(workload, 0) + count
    return tuple(counts.items())


def budget_to_proto(budget: Budget) -> tuning_pb2.Budget:
    return tuning_pb2.Budget(trials=budget.trials, seconds=budget.seconds)


def budget_from_proto(message: tuning_pb2.Budget) -> Budget:
    """Raises InvalidArgument for a budget out of range."""
    trials = message.trials if message.HasField("trials") else Budget().trials
    seconds = message.seconds if message.HasField("seconds") else None
    return Budget(trials, seconds)


def spec_to_proto(spec: JobSpec) -> tuning_pb2.JobSpec:
    return tuning_pb2.JobSpec(
        workloads=workloads_to_proto(spec.workloads),
        device=device_to_proto(spec.device),
        device_text=spec.device_text,
        budget=budget_to_proto(spec.budget),
        policy=policy_to_proto(spec.policy),
        seed=spec.seed,
        force=spec.force,
        title=spec.title,
        objectives=spec.objectives,
    )


def spec_from_proto(message: tuning_pb2.JobSpec) -> JobSpec:
    return JobSpec(
        workloads=workloads_from_proto(message.workloads),
        device=device_from_proto(message.device),
        device_text=message.device_text,
        budget=budget_from_proto(message.budget),
        policy=policy_from_proto(message.policy),
        seed=message.seed,
        force=message.force,
        title=message.title,
        objectives=objectives_from_proto(message.objectives),
    )


def objectives_from_proto(names: Sequence[str]) -> tuple[str, ...]:
    """None given means latency, as older clients do."""
    return tuple(names) or ("latency",)


def job_to_proto(job: Job) -> tuning_pb2.Job:
    return tuning_pb2.Job(
        id=job.id,
        state=state_to_proto(job.state),
        spec=spec_to_proto(job.spec),
        created=job.created,
        updated=job.updated,
        trials=job.trials,
        failed=job.failed,
        results=(result_to_proto(result) for result in job.results),
        best_s=job.best_s,
        error=job.error,
        cancel_requested=job.cancel_requested,
    )


def job_from_proto(message: tuning_pb2.Job) -> Job:
    return Job(
        id=message.id,
        state=state_from_proto(message.state),
        spec=spec_from_proto(message.spec),
        created=message.created,
        updated=message.updated,
        trials=message.trials,
        failed=message.failed,
        results=tuple(result_from_proto(result) for result in message.results),
        error=message.error,
        cancel_requested=message.cancel_requested,
    )


def jobs_to_proto(jobs: Iterable[Job]) -> list[tuning_pb2.Job]:
    return [job_to_proto(job) for job in jobs]
