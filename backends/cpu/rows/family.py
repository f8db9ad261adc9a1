"""The row operators as one kernel family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from fettle.backends.api import Candidate, Device, Schedule, Space, Support
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.family import Family, Lowered
from fettle.backends.cpu.rows import spaces
from fettle.backends.spaces import why_invalid
from fettle.graph.errors import BuildFailure
from fettle.graph.workload import Workload

_OPERATORS = ("softmax", "rmsnorm", "layernorm", "elementwise")


class Rows(Family):
    """Softmax, normalisations and elementwise chains over f32, bf16 or f16, computed in float32.

    Vectorised for AVX-512, AVX2 or 128 bits.
    """

    name: ClassVar[str] = "rows"

    def supports(self, workload: Workload, device: Device) -> Support:
        if workload.operator not in _OPERATORS:
            return Support.no(f"operator {workload.operator} is none of {' '.join(_OPERATORS)}")
        if str(workload["act"]) == "f16" and "f16c" not in cpu.features(device):
            return Support.no("act=f16 needs the CPU feature f16c")
        return Support.yes()

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
        from fettle.backends.cpu.rows import elementwise, layernorm, rmsnorm, softmax

        kernels = {
            "softmax": softmax.lower,
            "rmsnorm": rmsnorm.lower,
            "layernorm": layernorm.lower,
            "elementwise": elementwise.lower,
        }
        return Lowered(kernels[candidate.workload.operator](candidate))
