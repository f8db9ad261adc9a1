"""Jobs, their specifications and results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fettle.backends.api import Basis
from fettle.graph.errors import InvalidArgument
from fettle.graph.workload import Workload
from fettle.service.convert.values import (
    device_from_proto,
    device_to_proto,
    enum_from_proto,
    enum_to_proto,
    policy_from_proto,
    policy_to_proto,
    schedule_from_proto,
    schedule_to_proto,
)
from fettle.store.values import Budget, Job, JobSpec, JobState, Tradeoff, WorkloadResult
from fettle.v1 import common_pb2, tuning_pb2

MAX_WORKLOADS = 10_000
MAX_COUNT = 2**31 - 1

Counted = tuple[tuple[Workload, int], ...]


def state_to_proto(state: JobState) -> tuning_pb2.JobState:
    number: tuning_pb2.JobState = enum_to_proto(tuning_pb2.JobState, "JOB_STATE", state)
    return number


def state_from_proto(number: int, field: str = "state") -> JobState:
    return enum_from_proto(tuning_pb2.JobState, "JOB_STATE", JobState, number, field)


def workloads_to_proto(workloads: Counted) -> list[tuning_pb2.WorkloadCount]:
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


def basis_to_proto(basis: Basis) -> common_pb2.Basis:
    number: common_pb2.Basis = enum_to_proto(common_pb2.Basis, "BASIS", basis)
    return number


def basis_from_proto(number: int) -> Basis:
    return enum_from_proto(common_pb2.Basis, "BASIS", Basis, number, "basis")


_OPTIONAL = (
    "max_error",
    "error_ratio",
    "default_s",
    "best_s",
    "bound_s",
    "spearman",
    "pairwise",
    "top1_regret",
    "top5_regret",
    "coverage",
)


def result_to_proto(result: WorkloadResult) -> tuning_pb2.WorkloadResult:
    message = tuning_pb2.WorkloadResult(
        workload=str(result.workload),
        count=result.count,
        trials=result.trials,
        failed=result.failed,
        verified=result.verified,
        cached=result.cached,
        basis=basis_to_proto(result.basis),
        bound=result.bound,
        artifact_sha256=result.artifact_sha256,
        seconds=result.seconds,
        error=result.error,
        front=[_tradeoff_to_proto(tradeoff) for tradeoff in result.front],
        **{name: getattr(result, name) for name in _OPTIONAL},
    )
    if result.best_ci is not None:
        message.best_ci.low, message.best_ci.high = result.best_ci
    if result.schedule is not None:
        message.schedule.CopyFrom(schedule_to_proto(result.schedule))
    return message


def result_from_proto(message: tuning_pb2.WorkloadResult) -> WorkloadResult:
    return WorkloadResult(
        workload=Workload.parse(message.workload),
        count=message.count,
        trials=message.trials,
        failed=message.failed,
        verified=message.verified,
        cached=message.cached,
        basis=basis_from_proto(message.basis),
        best_ci=(message.best_ci.low, message.best_ci.high) if message.HasField("best_ci") else None,
        bound=message.bound,
        schedule=schedule_from_proto(message.schedule) if message.HasField("schedule") else None,
        artifact_sha256=message.artifact_sha256,
        seconds=message.seconds,
        error=message.error,
        front=tuple(_tradeoff_from_proto(tradeoff) for tradeoff in message.front),
        **{name: getattr(message, name) if message.HasField(name) else None for name in _OPTIONAL},
    )


def _tradeoff_to_proto(tradeoff: Tradeoff) -> tuning_pb2.Tradeoff:
    return tuning_pb2.Tradeoff(
        schedule=schedule_to_proto(tradeoff.schedule),
        seconds=tradeoff.seconds,
        joules=tradeoff.joules,
        bytes=tradeoff.bytes,
    )


def _tradeoff_from_proto(message: tuning_pb2.Tradeoff) -> Tradeoff:
    return Tradeoff(
        schedule_from_proto(message.schedule),
        message.seconds,
        message.joules if message.HasField("joules") else None,
        message.bytes if message.HasField("bytes") else None,
    )


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
