"""What a device that is a model must know: the mappings of workloads on it, what they compute, and what they cost.

Cycles come from a model, so nothing is ever measured; results come from executing a mapping on data, in this process.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import attrs
import numpy as np

from fettle.backends.api import (
    Artifact,
    Backend,
    Bound,
    Candidate,
    Device,
    DeviceText,
    Profile,
    Roof,
    Schedule,
    Simulation,
    Space,
    Value,
)
from fettle.backends.host.executor import Executor
from fettle.backends.host.inprocess import InProcessExecutor
from fettle.graph.errors import Unsupported
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
        """The commands, one a line.

        Raises:
            Unsupported: the device has none.
        """


class Machine(abc.ABC):
    """One kind of device. Stateless."""

    abi: ClassVar[str]
    """Version of what a schedule of its mappings means."""

    toolchain: ClassVar[str]

    @abc.abstractmethod
    def presets(self) -> tuple[str, ...]:
        """Names after the colon of a device text."""

    def usable(self) -> bool:
        """Whether what the model needs is installed."""
        return True

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

    def features(self, workload: Workload, device: Device, schedule: Schedule) -> Mapping[str, float]:
        """Numbers a cost model learns cycles from; cheap."""
        return {}

    def bound(self, workload: Workload, device: Device, profile: Profile) -> Bound:
        """Every operand moved once at the highest roof."""
        best = max(profile.roofs, key=lambda roof: roof.value)
        return Bound(workload.nbytes / best.value, best.name)

    def build(self, candidate: Candidate, kind: str) -> Artifact:
        """A mapping is its schedule: everything else follows from it."""
        return Artifact(
            payload=str(candidate.device).encode(),
            kind=kind,
            abi=self.abi,
            entry="",
            workload=str(candidate.workload),
            schedule=candidate.schedule,
            toolchain=self.toolchain,
        )

    def executor(self, backend: Backend, device: Device) -> Executor:
        """What builds and evaluates candidates."""
        return InProcessExecutor(backend, device)

    @abc.abstractmethod
    def kernel(self, workload: Workload, device: Device, schedule: Schedule) -> MappedKernel:
        """A mapping that computes.

        Raises:
            Unsupported: the device is only asked what things cost.
        """

    def simulate(self, workload: Workload, device: Device, schedule: Schedule, *, trace: bool) -> Simulation:
        """See :meth:`Backend.simulate`."""
        kernel = self.kernel(workload, device, schedule)
        result = kernel.report()
        return attrs.evolve(result, trace=kernel.trace()) if trace else result

    def time_trace(self, device: Device, lines: Iterable[str]) -> Simulation:
        """See :meth:`Backend.simulate_trace`."""
        raise Unsupported(f"{device} reads no command traces")
