"""Memories whose banks have units: mappings become command programs, and the engine times them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import ClassVar

import attrs
import numpy as np

from fettle.backends.api import Device, DeviceText, Roof, Schedule, Simulation
from fettle.backends.host.families import FamilyMachine
from fettle.backends.host.machines import MappedKernel
from fettle.backends.pim.attention import AttentionFamily
from fettle.backends.pim.device import Hardware, parse_device
from fettle.backends.pim.elementwise import ElementwiseFamily
from fettle.backends.pim.mapping import Family, Mapped
from fettle.backends.pim.matmul import MatmulFamily
from fettle.backends.pim.preset import preset_names
from fettle.backends.pim.report import simulation, time_program
from fettle.backends.pim.softmax import SoftmaxFamily
from fettle.backends.pim.trace import read_trace, write_trace
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload

_FAMILIES: Mapping[str, Family] = {
    "attention": AttentionFamily(),
    "elementwise": ElementwiseFamily(),
    "matmul": MatmulFamily(),
    "softmax": SoftmaxFamily(),
}


@attrs.frozen(eq=False)
class DramKernel(MappedKernel):
    """A mapping onto banks."""

    workload: Workload
    hardware: Hardware
    schedule: Schedule
    mapped: Mapped

    def pack(self, constants: Sequence[Operand]) -> tuple[np.ndarray, ...]:
        return _FAMILIES[self.workload.operator].pack(self.workload, self.hardware, constants)

    def run(self, inputs: Sequence[np.ndarray], packed: Sequence[np.ndarray], out: np.ndarray) -> None:
        """Execute the commands on data."""
        out[...] = self.mapped.compute(inputs, packed).reshape(out.shape).astype(out.dtype)

    def report(self, inputs: Sequence[np.ndarray] | None = None) -> Simulation:
        timing = time_program(self.mapped.program, self.hardware, self.mapped.slack)
        return simulation(timing, self.hardware, self.schedule)

    def trace(self) -> tuple[str, ...]:
        return write_trace(self.mapped.program, self.hardware.organisation.channels)


class DramMachine(FamilyMachine[Hardware]):
    """All presets with a file in ``data/``."""

    abi: ClassVar[str] = "pim-1"
    toolchain: ClassVar[str] = "fettle-pim-1"
    families = _FAMILIES

    def presets(self) -> tuple[str, ...]:
        return preset_names()

    def device(self, text: DeviceText) -> Device:
        return parse_device(text)

    def roofs(self, device: Device) -> tuple[Roof, ...]:
        """Columns of all units at their interval, and columns of all channels at the pins' interval."""
        hardware = Hardware.of(device)
        org, timing = hardware.organisation, hardware.preset.timing
        second = 1e9 / org.clock_ns * org.channels * org.column_bytes
        inside = second * org.units / timing.get("CCDAB", timing["CCDL"])
        return Roof("read:units", inside), Roof("read:channels", second / hardware.bus_interval)

    def hardware(self, device: Device) -> Hardware:
        return Hardware.of(device)

    def kernel(self, workload: Workload, device: Device, schedule: Schedule) -> DramKernel:
        return _kernel(workload, device, schedule)

    def time_trace(self, device: Device, lines: Iterable[str]) -> Simulation:
        hardware = Hardware.of(device)
        return simulation(time_program(read_trace(lines, hardware), hardware), hardware, Schedule())


@lru_cache(maxsize=16)
def _kernel(workload: Workload, device: Device, schedule: Schedule) -> DramKernel:
    """An executor asks for one mapping several times in a row."""
    hardware = Hardware.of(device)
    mapped = _FAMILIES[workload.operator].map(workload, hardware, schedule)
    return DramKernel(workload, hardware, schedule, mapped)
