"""The kernel family ``gemm``: ``y = x · W`` for quantised W and many rows of x, activations rounded to 8 bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from fettle.backends.api import Candidate, Schedule
from fettle.backends.cpu.family import Family, Lowered, Spaces
from fettle.backends.cpu.gemm import spaces
from fettle.backends.cpu.gemm.features import plan_features
from fettle.backends.cpu.gemm.plan import GemmPlan
from fettle.backends.cpu.gemv import layouts
from fettle.backends.cpu.pages import placed
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload


class Gemm(Family):
    """Quantised weights as the family ``gemv`` packs them: equal layout ids hold equal bytes."""

    name: ClassVar[str] = "gemm"
    operators: ClassVar[tuple[str, ...]] = ("matmul",)
    spaces: ClassVar[Spaces] = spaces

    def lower(self, candidate: Candidate) -> Lowered:
        from fettle.backends.cpu.gemm.kernel import kernel

        plan = GemmPlan.of(candidate.workload, candidate.schedule)
        needed = spaces.REQUIRED[plan.order] | (spaces.AMX if plan.is_amx else frozenset())
        return Lowered(kernel(plan), tuple(sorted(needed)), plan.packed.layout)

    def weight_layout(self, workload: Workload, schedule: Schedule) -> str:
        return GemmPlan.of(workload, schedule).packed.layout

    def pack(self, workload: Workload, schedule: Schedule, constants: Sequence[Operand]) -> tuple[np.ndarray, ...]:
        plan = GemmPlan.of(workload, schedule)
        return placed(layouts.packed_constants(workload, constants, plan.packed), plan.pages)

    def features(self, candidate: Candidate) -> Mapping[str, float]:
        return plan_features(GemmPlan.of(candidate.workload, candidate.schedule), candidate.device)
