"""The systolic device as one of the backend's machines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import attrs
import numpy as np

from fettle.backends.api import Bound, Device, DeviceText, Profile, Roof, Schedule, Simulation
from fettle.backends.host.families import FamilyMachine
from fettle.backends.host.machines import MappedKernel
from fettle.backends.npu.family import NAME, Call, Family
from fettle.backends.npu.systolic import trace
from fettle.backends.npu.systolic.attention import AttentionFamily
from fettle.backends.npu.systolic.hardware import PRESET, Systolic, parse_systolic
from fettle.backends.npu.systolic.matmul import MatmulFamily
from fettle.backends.npu.systolic.vector import VECTOR_OPERATORS, VectorFamily
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload

_FAMILIES: Mapping[str, Family] = {
    "matmul": MatmulFamily(),
    "attention": AttentionFamily(),
    **dict.fromkeys(VECTOR_OPERATORS, VectorFamily()),
}


@attrs.frozen(eq=False)
class SystolicKernel(MappedKernel):
    """A mapping onto the array; computes by executing its tiles on data."""

    workload: Workload
    hardware: Systolic
    schedule: Schedule

    @property
    def _family(self) -> Family:
        return _FAMILIES[self.workload.operator]

    def pack(self, constants: Sequence[Operand]) -> tuple[np.ndarray, ...]:
        return self._family.pack(self.workload, self.hardware, constants)

    def run(self, inputs: Sequence[np.ndarray], packed: Sequence[np.ndarray], out: np.ndarray) -> None:
        self._family.compute(self.workload, self.hardware, self.schedule, Call(inputs, packed, out))

    def report(self, inputs: Sequence[np.ndarray] | None = None) -> Simulation:
        return self._family.simulate(self.workload, self.hardware, self.schedule)

    def trace(self) -> tuple[str, ...]:
        return self._family.simulate(self.workload, self.hardware, self.schedule, trace=True).trace


class SystolicMachine(FamilyMachine[Systolic]):
    """Arrays with scratchpad, DMA and vector unit."""

    abi: ClassVar[str] = "npu-systolic-1"
    toolchain: ClassVar[str] = "fettle-systolic-1"
    families = _FAMILIES

    def presets(self) -> tuple[str, ...]:
        return (PRESET,)

    def device(self, text: DeviceText) -> Device:
        return parse_systolic(NAME, text)

    def roofs(self, device: Device) -> tuple[Roof, ...]:
        """What its elements compute and its memory delivers."""
        h = Systolic.of(device)
        second = h.clock * 1e6
        return Roof("peak:i8", 2.0 * h.rows * h.cols * h.arrays * second), Roof("read:dram", h.bandwidth * second)

    def hardware(self, device: Device) -> Systolic:
        return Systolic.of(device)

    def bound(self, workload: Workload, device: Device, profile: Profile) -> Bound:
        return _FAMILIES[workload.operator].bound(workload, Systolic.of(device))

    def time_trace(self, device: Device, lines: Iterable[str]) -> Simulation:
        """Time the commands of an array, alone or in a mesh.

        Raises:
            InvalidArgument: see :func:`trace.time`.
        """
        return trace.time(lines, Systolic.of(device))

    def kernel(self, workload: Workload, device: Device, schedule: Schedule) -> SystolicKernel:
        return SystolicKernel(workload, Systolic.of(device), schedule)
