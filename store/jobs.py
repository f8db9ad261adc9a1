"""Jobs: their states, events and results."""

from __future__ import annotations

import enum
from typing import Any

import attrs

from fettle.backends.api import Basis, Schedule
from fettle.graph.workload import Workload
from fettle.store.specs import JobSpec


class JobState(enum.Enum):
    """Life of a job: queued → running → done | failed | cancelled; running ↔ paused (server stopped)."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


@attrs.frozen
class Tradeoff:
    """A trial that no other beats: none is as good in all objectives of the job and better in one.

    Attributes:
        seconds: of a call, as searched; not measured again in the finals.
        joules: of a call; None unless energy is an objective.
        bytes: of the artifact; None unless size is an objective.
    """

    schedule: Schedule
    seconds: float
    joules: float | None = None
    bytes: int | None = None


@attrs.frozen
class WorkloadResult:
    """How tuning one workload of a job ended; the row ``fettle tune`` prints. Times in seconds.

    Attributes:
        trials, failed: trials measured, and how many of them were typed failures.
        verified: the winner passed the correctness gate.
        cached: served from the cache; nothing was measured.
        default_s, best_s: medians of the finals (None if nothing valid was found).
        best_ci: 95 % interval of the best's median.
        waited: share of the finals' time that the winner's threads waited for processors which others used, as far as
            the device tells: the times are too long by that, about.
        bound_s, bound: the roof's time and name.
        spearman, pairwise, top1_regret, top5_regret, coverage: of predictions, each made before its trial; see
            :class:`fettle.costmodel.foresight.Foresight`.
        artifact_sha256: the winner's artifact.
        seconds: wall time spent on this workload.
        error: why there is no kernel, if there is none.
        front: the Pareto front of the trials, fastest first, if the job has several objectives.
    """

    workload: Workload
    count: int
    trials: int = 0
    failed: int = 0
    verified: bool = False
    cached: bool = False
    basis: Basis = Basis.MEASURED
    max_error: float | None = None
    error_ratio: float | None = None
    default_s: float | None = None
    best_s: float | None = None
    best_ci: tuple[float, float] | None = None
    waited: float | None = None
    bound_s: float | None = None
    bound: str = ""
    schedule: Schedule | None = None
    spearman: float | None = None
    pairwise: float | None = None
    top1_regret: float | None = None
    top5_regret: float | None = None
    coverage: float | None = None
    artifact_sha256: str = ""
    seconds: float = 0.0
    error: str = ""
    front: tuple[Tradeoff, ...] = ()

    @property
    def speedup(self) -> float | None:
        """default_s / best_s."""
        return self.default_s / self.best_s if self.default_s and self.best_s else None


@attrs.frozen
class Job:
    """A durable job.

    Attributes:
        id: short unique text, sortable by creation.
        state: see :class:`JobState`.
        created, updated: Unix seconds.
        trials, failed: totals so far.
        results: one per finished workload.
        error: why it failed.
        cancel_requested: a cancel was asked for and is not yet carried out.
    """

    id: str
    spec: JobSpec
    state: JobState
    created: float
    updated: float
    trials: int = 0
    failed: int = 0
    results: tuple[WorkloadResult, ...] = ()
    error: str = ""
    cancel_requested: bool = False

    @property
    def best_s(self) -> float | None:
        """Σ count · best_s over finished workloads: one pass of the graph; None before the first."""
        times = [r.best_s * r.count for r in self.results if r.best_s is not None]
        return sum(times) if times else None


@attrs.frozen
class JobEvent:
    """One thing that happened in a job. Numbers run 1, 2, 3 … without gaps.

    Attributes:
        kind: ``state`` {state, error}, ``phase`` {workload, phase}, ``trial`` {workload, trial, trials, outcome,
            seconds, best_s, failed, schedule, eta_s, done, total}, ``result`` (a WorkloadResult as plain data).
        data: plain data as listed.
    """

    job_id: str
    number: int
    time: float
    kind: str
    data: dict[str, Any] = attrs.field(factory=dict)
