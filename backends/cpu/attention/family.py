"""The kernel family ``attention``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from fettle.backends.api import Candidate
from fettle.backends.cpu.attention import spaces
from fettle.backends.cpu.attention.analysis import CLOCK, busiest_thread
from fettle.backends.cpu.attention.plan import DOTS_BF16, DOTS_I8, Plan
from fettle.backends.cpu.family import Family, Lowered, Spaces


class Attention(Family):
    """Attention over a cache in f32, bf16, 8 or 4 bits; grouped queries, causal or not; nothing is packed before."""

    name: ClassVar[str] = "attention"
    operators: ClassVar[tuple[str, ...]] = ("attention",)
    spaces: ClassVar[Spaces] = spaces

    def features(self, candidate: Candidate) -> Mapping[str, float]:
        return spaces.features(candidate)

    def estimate(self, candidate: Candidate) -> float | None:
        plan = Plan.of(candidate.workload, candidate.schedule, candidate.device)
        return busiest_thread(plan, candidate.device)["all"] / CLOCK

    def lower(self, candidate: Candidate) -> Lowered:
        self.check(candidate)
        from fettle.backends.cpu.attention.kernel import kernel

        plan = Plan.of(candidate.workload, candidate.schedule, candidate.device)
        return Lowered(kernel(plan, candidate.device), _needed(plan))


def _needed(plan: Plan) -> tuple[str, ...]:
    """Features of the processor that the dot products of a kernel need."""
    if plan.bf16:
        return (DOTS_BF16,)
    return tuple(sorted(DOTS_I8)) if plan.i8 else ()
