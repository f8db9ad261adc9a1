"""The kernel family ``attention``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from fettle.backends.api import Candidate, Device, Schedule, Space, Support
from fettle.backends.cpu.attention import spaces
from fettle.backends.cpu.attention.plan import DOTS_BF16, DOTS_I8, Plan
from fettle.backends.cpu.family import Family, Lowered
from fettle.backends.spaces import why_invalid
from fettle.graph.errors import BuildFailure
from fettle.graph.workload import Workload


class Attention(Family):
    """Attention over a cache in f32, bf16, 8 or 4 bits; grouped queries, causal or not; nothing is packed before."""

    name: ClassVar[str] = "attention"

    def supports(self, workload: Workload, device: Device) -> Support:
        return spaces.supports(workload, device)

    def space(self, workload: Workload, device: Device) -> Space:
        return spaces.space(workload, device)

    def default(self, workload: Workload, device: Device) -> Schedule:
        return spaces.default(workload, device)

    def features(self, candidate: Candidate) -> Mapping[str, float]:
        return spaces.features(candidate)

    def lower(self, candidate: Candidate) -> Lowered:
        """TensorIR of a candidate.

        Raises:
            BuildFailure: the schedule is no point of the workload's space.
        """
        why = why_invalid(self.space(candidate.workload, candidate.device), candidate.schedule)
        if why is not None:
            raise BuildFailure(f"not a schedule of {candidate.workload}: {why}")
        from fettle.backends.cpu.attention.kernel import kernel

        plan = Plan.of(candidate.workload, candidate.schedule, candidate.device)
        needed = (DOTS_BF16,) if plan.bf16 else tuple(sorted(DOTS_I8)) if plan.i8 else ()
        return Lowered(kernel(plan, candidate.device), needed)
