"""The row operators as one kernel family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from fettle.backends.api import Candidate, Device, Schedule, Space, Support
from fettle.backends.cpu.family import Family, Lowered
from fettle.backends.cpu.rows import spaces
from fettle.backends.spaces import why_invalid
from fettle.graph.errors import BuildFailure
from fettle.graph.workload import Workload

_OPERATORS = ("softmax", "rmsnorm", "elementwise")


class Rows(Family):
    """Softmax, RMS normalisation and elementwise chains in float32, vectorised for AVX-512, AVX2 or 128 bits."""

    name: ClassVar[str] = "rows"

    def supports(self, workload: Workload, device: Device) -> Support:
        if workload.operator not in _OPERATORS:
            return Support.no(f"operator {workload.operator} is none of {' '.join(_OPERATORS)}")
        if str(workload["act"]) != "f32":
            return Support.no(f"act={workload['act']}: only f32 kernels exist")
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
        from fettle.backends.cpu.rows import elementwise, rmsnorm, softmax

        kernels = {"softmax": softmax.lower, "rmsnorm": rmsnorm.lower, "elementwise": elementwise.lower}
        return Lowered(kernels[candidate.workload.operator](candidate))
