"""How the tuning of one workload ended: the row of the job, and the kernel for the cache."""

from __future__ import annotations

import math

import attrs

from fettle.backends.api import Bound
from fettle.graph.workload import Workload
from fettle.search.finals import Verdict
from fettle.search.tuner import WorkloadTuner
from fettle.store.jobs import WorkloadResult
from fettle.store.kernels import Kernel

CANCELLED_UNTRIED = "cancelled before the first trial"


def cached_result(workload: Workload, count: int, kernel: Kernel) -> WorkloadResult:
    """The result of a workload whose kernel the cache had."""
    return WorkloadResult(
        workload=workload,
        count=count,
        verified=True,
        cached=True,
        basis=kernel.basis,
        max_error=None if math.isnan(kernel.max_error) else kernel.max_error,
        error_ratio=None if math.isnan(kernel.error_ratio) else kernel.error_ratio,
        default_s=kernel.default_s if math.isfinite(kernel.default_s) else None,
        best_s=kernel.best_s,
        best_ci=kernel.best_ci,
        bound_s=kernel.bound_s,
        bound=kernel.bound,
        schedule=kernel.schedule,
        artifact_sha256=kernel.artifact_sha256,
    )


def failed_result(tuner: WorkloadTuner, error: str) -> WorkloadResult:
    """The result of a workload that was tuned in vain."""
    foresight = tuner.foresight()
    return WorkloadResult(
        workload=tuner.workload,
        count=tuner.count,
        trials=tuner.trials,
        failed=tuner.failed,
        bound_s=tuner.bound.seconds,
        bound=tuner.bound.roof,
        spearman=foresight.spearman,
        pairwise=foresight.pairwise,
        top1_regret=foresight.top1_regret,
        top5_regret=foresight.top5_regret,
        coverage=foresight.coverage,
        seconds=tuner.seconds,
        error=error,
        front=tuner.front(),
    )


def why_no_kernel(tuner: WorkloadTuner, cancelled: bool) -> str:
    """Why a workload that was tuned has no kernel."""
    if tuner.error:
        return tuner.error
    if not tuner.records:
        return CANCELLED_UNTRIED if cancelled else "the job's time was over before the first trial"
    if tuner.best_s is not None:
        return "the finalists could not be built or measured again"
    last = tuner.records[-1].measurement
    return f"all {tuner.trials} trials failed; the last: {last.outcome.value}: {last.message}"


def won_result(tuner: WorkloadTuner, verdict: Verdict) -> WorkloadResult:
    """The result of a workload with a winner."""
    record = verdict.winner.record
    return attrs.evolve(
        failed_result(tuner, ""),
        verified=record.verified,
        basis=verdict.measurement.basis,
        max_error=record.max_error,
        error_ratio=record.error_ratio,
        default_s=verdict.default_s,
        best_s=verdict.best_s,
        best_ci=verdict.best_ci,
        waited=verdict.measurement.waited,
        schedule=record.candidate.schedule,
        artifact_sha256=verdict.winner.artifact.sha256,
    )


def won_kernel(verdict: Verdict, bound: Bound, trials: int, job_id: str, created: float) -> Kernel:
    """The winner as the cache serves it. Its ``default_s`` is infinity if the default never gave a right result,
    its errors are NaN if nothing ran (a recording)."""
    record, artifact = verdict.winner.record, verdict.winner.artifact
    return Kernel(
        workload=record.candidate.workload,
        device=record.candidate.device,
        schedule=record.candidate.schedule,
        artifact_sha256=artifact.sha256,
        mode=record.policy.mode,
        basis=verdict.measurement.basis,
        default_s=math.inf if verdict.default_s is None else verdict.default_s,
        best_s=verdict.best_s,
        best_ci=verdict.best_ci,
        bound_s=bound.seconds,
        bound=bound.roof,
        max_error=record.max_error if record.max_error is not None else math.nan,
        error_ratio=record.error_ratio if record.error_ratio is not None else math.nan,
        trials=trials,
        job_id=job_id,
        created=created,
        toolchain=artifact.toolchain,
        abi=artifact.abi,
        isa=artifact.isa,
        space_version=record.space_version,
    )
