"""What is stored beside records: jobs, their events, results and kernels."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable
from typing import Any

import attrs

from fettle.backends.api import Basis, Device, MeasurePolicy, Schedule
from fettle.graph import codec
from fettle.graph.errors import InvalidArgument
from fettle.graph.workload import Workload

MAX_TRIALS = 1_000_000
MAX_SEED = 2**32 - 1
"""What NumPy's and Optuna's generators take."""

OBJECTIVES = ("latency", "energy", "size")
"""What a job may minimise: seconds of a call, joules of a call where the device tells, bytes of the artifact."""

KERNEL_VERSION = 1
"""Version of :class:`Kernel` as stored; an unknown version is a typed miss."""


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
class Budget:
    """What a job may spend.

    Attributes:
        trials: mean number of trials per distinct workload, 1 … a million.
        seconds: wall-clock limit of the whole job; None for no limit.

    Raises:
        InvalidArgument: out of range.
    """

    trials: int = 64
    seconds: float | None = None

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.trials, int) or not isinstance(self.seconds, int | float | None):
            raise InvalidArgument(f"trials and seconds are numbers, not {self.trials!r} and {self.seconds!r}")
        if not 1 <= self.trials <= MAX_TRIALS:
            raise InvalidArgument(
                f"trials must be between 1 and {MAX_TRIALS}, not {self.trials}", details={"field": "budget.trials"}
            )
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise InvalidArgument(
                f"the time limit must be a positive number of seconds, not {self.seconds}",
                details={"field": "budget.seconds"},
            )


def _canonical_objectives(names: Iterable[str]) -> tuple[str, ...]:
    """In the order of :data:`OBJECTIVES`, so that equal requests have equal keys."""
    if isinstance(names, str) or not isinstance(names, Iterable):  # Python callers pass anything
        hint = f"write [{names!r}]" if isinstance(names, str) else "write ['latency', 'energy']"
        raise InvalidArgument(f"objectives are several names, not {names!r}", hint=hint)
    given = list(names)
    if unknown := [name for name in given if name not in OBJECTIVES]:
        raise InvalidArgument(
            f"no objective named {unknown[0][:64]!r}",
            hint=f"objectives: {' '.join(OBJECTIVES)}",
            details={"field": "objectives"},
        )
    if "latency" not in given:
        raise InvalidArgument(
            "latency is not among the objectives; the fastest kernel is what the cache keeps",
            hint="write for example latency,energy",
            details={"field": "objectives"},
        )
    return tuple(name for name in OBJECTIVES if name in given)


@attrs.frozen
class JobSpec:
    """A request to tune.

    Attributes:
        workloads: distinct workloads with how often each occurs.
        device: the device to tune for.
        device_text: the text that selects it on the machine that runs the job.
        seed: everything random follows from it; 0 … 2^32 - 1.
        force: tune even what the cache already has.
        title: shown to people (a file name, or the workload text).
        objectives: of :data:`OBJECTIVES`, latency among them. With several the search is for all trade-offs between
            them, and nothing comes from the cache.

    Raises:
        InvalidArgument: a seed out of range, or an unknown objective.
    """

    workloads: tuple[tuple[Workload, int], ...]
    device: Device
    device_text: str
    budget: Budget = Budget()
    policy: MeasurePolicy = MeasurePolicy()
    seed: int = 0
    force: bool = False
    title: str = ""
    objectives: tuple[str, ...] = attrs.field(default=("latency",), converter=_canonical_objectives)

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.seed, int) or not 0 <= self.seed <= MAX_SEED:
            raise InvalidArgument(
                f"the seed must be between 0 and {MAX_SEED}, not {self.seed!r}", details={"field": "seed"}
            )

    @property
    def key(self) -> str:
        """Equal keys are the same work: a second submission joins the first while it is in flight."""
        return codec.digest(
            (
                "fettle.job",
                tuple((w.key, count) for w, count in self.workloads),
                self.device.key,
                attrs.astuple(self.budget),
                attrs.astuple(self.policy),
                self.seed,
                self.force,
                *([self.objectives] if len(self.objectives) > 1 else ()),
            )
        )


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


@attrs.frozen
class Kernel:
    """A verified winner, as the cache serves it. Times in seconds.

    Attributes:
        mode: ``hot`` or ``cold``: where its weights were when it was timed.
        default_s, best_s: medians of the finals; default_s is infinite if the default never gave a right result.
        best_ci: 95 % interval of the best's median.
        bound_s, bound: the roof's time and name.
        max_error, error_ratio: largest ``|kernel - reference|``, and in units of the tolerance.
        trials: how many the job made of this workload.
        created: Unix seconds.
        toolchain, abi, isa, space_version: checked when the kernel is loaded.
    """

    workload: Workload
    device: Device
    schedule: Schedule
    artifact_sha256: str
    mode: str
    basis: Basis
    default_s: float
    best_s: float
    best_ci: tuple[float, float]
    bound_s: float
    bound: str
    max_error: float
    error_ratio: float
    trials: int
    job_id: str
    created: float
    toolchain: str
    abi: str
    isa: tuple[str, ...]
    space_version: str
    version: int = KERNEL_VERSION

    @property
    def key(self) -> str:
        """The cache key."""
        return kernel_key(self.workload, self.device, self.mode, self.basis)


def kernel_key(workload: Workload, device: Device, mode: str = "hot", basis: Basis = Basis.MEASURED) -> str:
    """256-bit cache key: (workload, device identity, hot or cold, basis). Toolchains are no part of it."""
    return codec.digest(("fettle.kernel", workload.key, device.key, mode, basis.value))
