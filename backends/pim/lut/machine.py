"""The SRAM device: ``pim:sram-lut[,arrays=N]``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import attrs
import numpy as np

from fettle.backends.api import Device, DeviceText, Roof, Schedule, Simulation, Space, Value
from fettle.backends.host.machines import Machine, MappedKernel
from fettle.backends.pim.device import NAME
from fettle.backends.pim.lut import mapping
from fettle.backends.pim.lut.model import Sram, read_sram
from fettle.backends.pim.lut.program import simulate
from fettle.backends.pim.lut.trace import read
from fettle.graph.quantized import Operand, QuantizedWeight
from fettle.graph.workload import Workload

PRESET = "sram-lut"
_MOST_ARRAYS = 1 << 20


class SramMachine(Machine):
    """Products by table look-up in SRAM arrays."""

    abi: ClassVar[str] = "pim-1"
    toolchain: ClassVar[str] = "fettle-pim-1"

    def presets(self) -> tuple[str, ...]:
        return (PRESET,)

    def device(self, text: DeviceText) -> Device:
        options = text.only("arrays")
        limits = {name: text.whole_number(name, 1, _MOST_ARRAYS, default=1) for name in options}
        facts = {"clock_ns": read_sram().clock_ns, "kind": "sram"}
        return Device(NAME, PRESET, tuple(facts.items()), tuple(limits.items()), label=f"simulated {PRESET}")

    def roofs(self, device: Device) -> tuple[Roof, ...]:
        """Weights come from DRAM."""
        return (Roof("read:dram", read_sram().dram_bytes_per_ns * 1e9),)

    def unsupported(self, workload: Workload, device: Device) -> str:
        return mapping.unsupported(workload, _sram(device))

    def space(self, workload: Workload, device: Device) -> Space:
        return mapping.space(workload, _sram(device))

    def textbook(self, workload: Workload, device: Device, given: Mapping[str, Value]) -> dict[str, Value]:
        return mapping.textbook(workload, _sram(device))

    def kernel(self, workload: Workload, device: Device, schedule: Schedule) -> SramKernel:
        return SramKernel(mapping.LutKernel(workload, _sram(device), schedule))

    def time_trace(self, device: Device, lines: Iterable[str]) -> Simulation:
        """Time the commands of a product.

        Raises:
            InvalidArgument: see :func:`trace.read`.
        """
        sram = _sram(device)
        return simulate(read(lines, sram), sram, Schedule())


@attrs.frozen(eq=False)
class SramKernel(MappedKernel):
    """A mapping onto arrays."""

    lut: mapping.LutKernel

    def pack(self, constants: Sequence[Operand]) -> tuple[np.ndarray, ...]:
        return self.lut.pack([c for c in constants if isinstance(c, QuantizedWeight)])

    def run(self, inputs: Sequence[np.ndarray], packed: Sequence[np.ndarray], out: np.ndarray) -> None:
        self.lut.run(inputs, packed, out)

    def report(self, inputs: Sequence[np.ndarray] | None = None) -> Simulation:
        return self.lut.report(None if inputs is None else inputs[0])

    def trace(self) -> tuple[str, ...]:
        return self.lut.trace()


def _sram(device: Device) -> Sram:
    sram = read_sram()
    return attrs.evolve(sram, arrays=int(device.limit("arrays", sram.arrays)))
