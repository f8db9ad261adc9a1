"""The kernel family ``gemv``: ``y = x · W`` for quantised W, any group, any M (fastest for small M)."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import ClassVar

import attrs
import numpy as np

from fettle.backends.api import Candidate, Schedule
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.family import Family, Lowered, Spaces
from fettle.backends.cpu.gemv import layouts, spaces
from fettle.backends.cpu.gemv.features import CLOCK, busiest_thread, plan_features
from fettle.backends.cpu.gemv.plan import Plan
from fettle.backends.cpu.pages import placed
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload


class Gemv(Family):
    """Quantised weights, packed once into the order the inner loop reads them."""

    name: ClassVar[str] = "gemv"
    operators: ClassVar[tuple[str, ...]] = ("matmul",)
    spaces: ClassVar[Spaces] = spaces

    def lower(self, candidate: Candidate) -> Lowered:
        from fettle.backends.cpu.gemv.kernel import kernel

        plan = Plan.of(candidate.workload, candidate.schedule)
        needed = spaces.required(plan.algorithm, plan.isa, cpu.features(candidate.device))
        plan = attrs.evolve(plan, converts_half=spaces.converts_half(candidate.device), has_gfni=spaces.GFNI in needed)
        return Lowered(kernel(plan), tuple(sorted(needed)), plan.layout)

    def weight_layout(self, workload: Workload, schedule: Schedule) -> str:
        return Plan.of(workload, schedule).layout

    def pack(self, workload: Workload, schedule: Schedule, constants: Sequence[Operand]) -> tuple[np.ndarray, ...]:
        plan = Plan.of(workload, schedule)
        return placed(layouts.packed_constants(workload, constants, plan), plan.pages)

    def features(self, candidate: Candidate) -> Mapping[str, float]:
        return plan_features(*_analysed(candidate.workload, candidate.schedule))

    def estimate(self, candidate: Candidate) -> float | None:
        return _analysed(candidate.workload, candidate.schedule)[1]["all"] / CLOCK


@functools.lru_cache(maxsize=1)
def _analysed(workload: Workload, schedule: Schedule) -> tuple[Plan, Mapping[str, float]]:
    """The plan and the cycles of its busiest thread; a schedule's features and its estimate are asked for in turn."""
    plan = Plan.of(workload, schedule)
    return plan, busiest_thread(plan)
