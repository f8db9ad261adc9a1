"""The family of products with low-bit weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from fettle.backends.api import Schedule, Space, Support
from fettle.backends.triton.family import Family
from fettle.backends.triton.lowbit import defaults, packing, plan, spaces
from fettle.backends.triton.plan import Plan
from fettle.backends.triton.targets import Target
from fettle.graph.errors import InvalidArgument
from fettle.graph.quantized import Operand, QuantizedWeight
from fettle.graph.workload import Workload


class LowBit(Family):
    """Weights of 1 … 8 bits: integers, signs, minifloats, MX and NVFP4; activations f16, bf16 or rounded to int8."""

    name: ClassVar[str] = "lowbit"

    def supports(self, workload: Workload, target: Target) -> Support:
        return spaces.supports(workload, target)

    def space(self, workload: Workload, target: Target) -> Space:
        return spaces.space(workload, target)

    def default(self, workload: Workload, target: Target) -> Schedule:
        return defaults.default(workload, target)

    def plan(self, workload: Workload, schedule: Schedule, target: Target) -> Plan:
        return plan.make(workload, schedule, target)

    def weight_layout(self, workload: Workload, schedule: Schedule) -> str:
        return packing.layout_name(workload, schedule)

    def pack(self, workload: Workload, schedule: Schedule, constants: Sequence[Operand]) -> tuple[np.ndarray, ...]:
        """(codes of each plane, scales[, zero points][, the tensor's scale], the epilogue's rows)."""
        weight, *rows = constants
        if not isinstance(weight, QuantizedWeight):
            raise InvalidArgument(f"the weight of {workload} must be quantised")
        return *packing.pack(workload, schedule, weight), *(np.ascontiguousarray(row) for row in rows)
