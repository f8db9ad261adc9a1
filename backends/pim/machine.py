"""What the backend asks of a kind of simulated memory: commands in DRAM, or look-ups in SRAM."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from fettle.backends.api import Device, DeviceText, Roof, Schedule, Simulation, Space, Value
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload


class MappedKernel(abc.ABC):
    """A workload under one schedule; computes as the mapping says."""

    @abc.abstractmethod
    def pack(self, constants: Sequence[Operand]) -> tuple[np.ndarray, ...]:
        """Constants as :meth:`run` wants them; the same for all schedules of a workload."""

    @abc.abstractmethod
    def run(self, inputs: Sequence[np.ndarray], packed: Sequence[np.ndarray], out: np.ndarray) -> None:
        """Compute into ``out``."""

    @abc.abstractmethod
    def report(self, inputs: Sequence[np.ndarray] | None = None) -> Simulation:
        """Cycles, commands, traffic and energy; where they depend on data, of these inputs or of random ones."""

    @abc.abstractmethod
    def trace(self) -> tuple[str, ...]:
        """The commands, one a line."""


class Machine(abc.ABC):
    """One kind of device. Stateless."""

    @abc.abstractmethod
    def presets(self) -> tuple[str, ...]:
        """Names after the colon of a device text."""

    @abc.abstractmethod
    def device(self, text: DeviceText) -> Device:
        """The device a text names; InvalidDevice if it names none."""

    @abc.abstractmethod
    def roofs(self, device: Device) -> tuple[Roof, ...]:
        """What no mapping exceeds."""

    @abc.abstractmethod
    def unsupported(self, workload: Workload, device: Device) -> str:
        """Why a workload cannot be mapped; empty if it can."""

    @abc.abstractmethod
    def space(self, workload: Workload, device: Device) -> Space:
        """The mappings of a supported workload."""

    @abc.abstractmethod
    def textbook(self, workload: Workload, device: Device, given: Mapping[str, Value]) -> dict[str, Value]:
        """What a textbook does about every parameter that ``given`` leaves open."""

    def features(self, workload: Workload, device: Device, schedule: Schedule) -> dict[str, float]:
        """Numbers a cost model learns cycles from; cheap."""
        return {}

    @abc.abstractmethod
    def kernel(self, workload: Workload, device: Device, schedule: Schedule) -> MappedKernel:
        """A mapping."""

    @abc.abstractmethod
    def time_trace(self, device: Device, lines: Iterable[str]) -> Simulation:
        """Time a command trace.

        Raises:
            InvalidArgument: a malformed line.
            Unsupported: the device has no commands.
        """
