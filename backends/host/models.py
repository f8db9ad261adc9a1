"""Backends whose devices are models: a plugin is a list of machines, each of which knows one kind of device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import attrs
import numpy as np

from fettle.backends.api import (
    Artifact,
    Backend,
    Basis,
    Bound,
    Candidate,
    Device,
    DeviceText,
    LoadedKernel,
    Measurement,
    MeasurePolicy,
    Outcome,
    Profile,
    Schedule,
    Simulation,
    Space,
    Support,
    Value,
)
from fettle.backends.host.executor import Executor
from fettle.backends.host.machines import Machine, MappedKernel
from fettle.backends.host.operands import split_constants
from fettle.backends.spaces import why_invalid
from fettle.graph.errors import InvalidArgument, InvalidDevice, Unsupported
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload


@attrs.frozen(eq=False)
class ModelKernel:
    """A loaded mapping, and the workload it is of."""

    workload: Workload
    mapped: MappedKernel

    def pack(self, constants: Sequence[Operand]) -> tuple[np.ndarray, ...]:
        return self.mapped.pack(constants)

    def run(self, inputs: Sequence[np.ndarray], packed: Sequence[np.ndarray], out: np.ndarray) -> None:
        self.mapped.run(inputs, packed, out)


class ModelBackend(Backend):
    """The plugin of some machines."""

    machines: ClassVar[tuple[Machine, ...]]

    def devices(self) -> Sequence[Device]:
        usable = [machine for machine in self.machines if machine.usable()]
        return tuple(machine.device(DeviceText(self.name, p)) for machine in usable for p in machine.presets())

    def device(self, text: DeviceText) -> Device:
        return self._machine(text.preset).device(text)

    def profile(self, device: Device) -> Profile:
        """Roofs of the model."""
        return Profile(device.key, self._machine(device.preset).roofs(device))

    def supports(self, workload: Workload, device: Device) -> Support:
        reason = self._machine(device.preset).unsupported(workload, device)
        return Support.no(reason) if reason else Support.yes()

    def space(self, workload: Workload, device: Device) -> Space:
        return self._machine(device.preset).space(workload, device)

    def default(self, workload: Workload, device: Device) -> Schedule:
        """The textbook mapping."""
        return self._complete(workload, device, {})

    def build(self, candidate: Candidate) -> Artifact:
        return self._machine(candidate.device.preset).build(candidate, self._kind)

    def load(self, artifact: Artifact) -> LoadedKernel:
        if artifact.kind != self._kind:
            raise Unsupported(f"the {self.name} backend runs mappings, not {artifact.kind}")
        device = self.device(DeviceText.parse(artifact.payload.decode()))
        machine = self._machine(device.preset)
        if artifact.abi != machine.abi:
            raise Unsupported(f"not a mapping of this version: {artifact.abi} instead of {machine.abi}")
        workload = Workload.parse(artifact.workload)
        return ModelKernel(workload, machine.kernel(workload, device, artifact.schedule))

    def measure(
        self, kernel: LoadedKernel, operands: Sequence[Operand], out: np.ndarray, policy: MeasurePolicy
    ) -> Measurement:
        """Simulated seconds: exact, so they are stated, and every sample is the same."""
        if not isinstance(kernel, ModelKernel):
            raise Unsupported("only mappings that this backend loaded can be timed")
        inputs, _ = split_constants(kernel.workload, operands)
        result = kernel.mapped.report(inputs)
        return Measurement(
            Outcome.OK,
            (result.seconds,) * policy.samples,
            Basis.SIMULATED,
            counters=(("cycles", result.cycles), ("dram_bytes", result.dram_bytes), *result.commands, *result.counters),
            energy=result.energy,
            objective=result.seconds,
        )

    def features(self, candidate: Candidate, artifact: Artifact | None) -> Mapping[str, float]:
        """What a mapping does how often; see the family."""
        machine = self._machine(candidate.device.preset)
        return machine.features(candidate.workload, candidate.device, candidate.schedule)

    def bound(self, workload: Workload, device: Device, profile: Profile) -> Bound:
        return self._machine(device.preset).bound(workload, device, profile)

    def executor(self, device: Device) -> Executor:
        return self._machine(device.preset).executor(self, device)

    def simulate(
        self, workload: Workload, device: Device, schedule: Mapping[str, Value], *, trace: bool = False
    ) -> Simulation:
        if not (support := self.supports(workload, device)):
            raise Unsupported(f"{device} cannot run {workload}: {support.reason}")
        complete = self._complete(workload, device, schedule)
        return self._machine(device.preset).simulate(workload, device, complete, trace=trace)

    def simulate_trace(self, device: Device, lines: Iterable[str]) -> Simulation:
        return self._machine(device.preset).time_trace(device, lines)

    # ---------------------------------------------------------------------------------------- helpers

    @property
    def _kind(self) -> str:
        return f"{self.name}-mapping"

    def _machine(self, preset: str) -> Machine:
        for machine in self.machines:
            if preset in machine.presets():
                return machine
        known = " ".join(name for machine in self.machines for name in machine.presets())
        raise InvalidDevice(f"the {self.name} backend has no preset {preset!r}", hint=f"presets: {known}")

    def _complete(self, workload: Workload, device: Device, given: Mapping[str, Value]) -> Schedule:
        """A schedule from some parameters; what they leave open is as in a textbook."""
        space = self.space(workload, device)
        if unknown := given.keys() - set(space.names):
            raise InvalidArgument(
                f"no parameter {min(unknown)!r} in schedules of {workload.operator} on {device}",
                hint=f"parameters: {' '.join(space.names)}",
            )
        textbook = self._machine(device.preset).textbook(workload, device, given)
        schedule = Schedule.of(**{**textbook, **given})
        if (why := why_invalid(space, schedule)) is not None:
            raise InvalidArgument(f"not a schedule of {workload} on {device}: {why}")
        return schedule
