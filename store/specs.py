"""What a job is asked to do."""

from __future__ import annotations

import math
from collections.abc import Iterable

import attrs

from fettle.backends.api import Device, MeasurePolicy
from fettle.graph import codec
from fettle.graph.errors import InvalidArgument
from fettle.graph.workload import Workload

MAX_TRIALS = 1_000_000
MAX_SEED = 2**32 - 1
"""What NumPy's and Optuna's generators take."""

OBJECTIVES = ("latency", "energy", "size")
"""What a job may minimise: seconds of a call, joules of a call where the device tells, bytes of the artifact."""


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
