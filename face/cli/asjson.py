"""Domain values as what ``--json`` prints of them; times are medians in seconds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fettle.bench.beside import Beside
    from fettle.graph.errors import FettleError
    from fettle.graph.workload import Workload
    from fettle.store.jobs import Job, WorkloadResult
    from fettle.store.kernels import Kernel


def finite(value: float) -> float | None:
    """None for what JSON cannot say: a default schedule that never gave a right result has no time."""
    return value if math.isfinite(value) else None


def result_json(result: WorkloadResult) -> dict[str, Any]:
    """One workload of ``fettle tune --json``; times are medians in seconds."""
    return {
        "workload": str(result.workload),
        "key": result.workload.key,
        "count": result.count,
        "trials": result.trials,
        "failed": result.failed,
        "verified": result.verified,
        "cached": result.cached,
        "basis": result.basis.value,
        "max_error": result.max_error,
        "error_ratio": result.error_ratio,
        "default_s": result.default_s,
        "best_s": result.best_s,
        "speedup": result.speedup,
        "best_ci_s": list(result.best_ci) if result.best_ci else None,
        "waited": result.waited,
        "bound_s": result.bound_s,
        "bound": result.bound,
        "spearman": result.spearman,
        "pairwise": result.pairwise,
        "top1_regret": result.top1_regret,
        "top5_regret": result.top5_regret,
        "coverage": result.coverage,
        "schedule": result.schedule.as_dict() if result.schedule else None,
        "artifact": result.artifact_sha256 or None,
        "seconds": result.seconds,
        "error": result.error or None,
        "front": [
            {"schedule": t.schedule.as_dict(), "seconds": t.seconds, "joules": t.joules, "bytes": t.bytes}
            for t in result.front
        ],
    }


def job_json(job: Job) -> dict[str, Any]:
    """What ``fettle tune --json`` prints."""
    return {
        "job": job.id,
        "state": job.state.value,
        "device": str(job.spec.device),
        "workloads": [result_json(r) for r in job.results],
        "error": job.error or None,
    }


def peer_json(workload: Workload, found: Beside) -> dict[str, Any]:
    """A kernel beside its fastest peer, as ``fettle tune --compare --json`` prints it; seconds a call."""
    return {
        "workload": str(workload),
        "peer": found.peer or None,
        "ours_s": found.ours_s,
        "peer_s": found.peer_s,
        "speedup": found.speedup,
        "missing": found.missing or None,
    }


def error_json(error: FettleError) -> dict[str, Any]:
    """What a command with ``--json`` prints when it fails."""
    return {
        "error": {
            "kind": type(error).__name__,
            "message": error.message,
            "hint": error.hint or None,
            "details": error.details,
        }
    }


def kernel_json(kernel: Kernel) -> dict[str, Any]:
    """A cached kernel, as ``lookup`` and ``cache list`` print it."""
    return {
        "key": kernel.key,
        "workload": str(kernel.workload),
        "device": str(kernel.device),
        "device_key": kernel.device.key,
        "mode": kernel.mode,
        "basis": kernel.basis.value,
        "schedule": kernel.schedule.as_dict(),
        "artifact": kernel.artifact_sha256,
        "default_s": finite(kernel.default_s),
        "best_s": kernel.best_s,
        "speedup": finite(kernel.default_s / kernel.best_s),
        "best_ci_s": list(kernel.best_ci),
        "bound_s": kernel.bound_s,
        "bound": kernel.bound,
        "max_error": finite(kernel.max_error),
        "toolchain": kernel.toolchain,
        "abi": kernel.abi,
        "isa": list(kernel.isa),
        "space_version": kernel.space_version,
        "trials": kernel.trials,
        "job": kernel.job_id,
        "created": kernel.created,
    }


def plain(value: Any) -> Any:
    """Plain data of a domain value, for ``--json``."""
    from fettle.graph import codec

    return codec.to_data(value)
