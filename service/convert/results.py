"""Results of jobs."""

from __future__ import annotations

from fettle.graph.workload import Workload
from fettle.service.convert.values import basis_from_proto, basis_to_proto, schedule_from_proto, schedule_to_proto
from fettle.store.jobs import Tradeoff, WorkloadResult
from fettle.v1 import tuning_pb2

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
    "waited",
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
