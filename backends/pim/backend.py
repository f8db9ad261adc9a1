"""The pim backend as the plugin contract wants it."""

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
from fettle.backends.host.inprocess import InProcessExecutor
from fettle.backends.host.operands import split_constants
from fettle.backends.pim.device import NAME
from fettle.backends.pim.dram import DramMachine
from fettle.backends.pim.lut.machine import SramMachine
from fettle.backends.pim.machine import Machine, MappedKernel
from fettle.backends.spaces import why_invalid
from fettle.graph.errors import InvalidArgument, InvalidDevice, Unsupported
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload

KIND = "pim-mapping"
ABI = "pim-1"

_MACHINES: tuple[Machine, ...] = (DramMachine(), SramMachine())


@attrs.frozen(eq=False)
class _Kernel:
    """A loaded mapping: a :class:`MappedKernel` and the workload it is of."""

    workload: Workload
    mapped: MappedKernel

    def pack(self, constants: Sequence[Operand]) -> tuple[np.ndarray, ...]:
        return self.mapped.pack(constants)

    def run(self, inputs: Sequence[np.ndarray], packed: Sequence[np.ndarray], out: np.ndarray) -> None:
        self.mapped.run(inputs, packed, out)


class PimBackend(Backend):
    """Simulated memories that compute. Cycles come from a model, so nothing is ever measured."""

    name: ClassVar[str] = NAME

    def devices(self) -> Sequence[Device]:
        return tuple(m.device(DeviceText(NAME, preset)) for m in _MACHINES for preset in m.presets())

    def device(self, text: DeviceText) -> Device:
        return _machine(text.preset).device(text)

    def profile(self, device: Device) -> Profile:
        """Roofs of the model."""
        return Profile(device.key, _machine(device.preset).roofs(device))

    def supports(self, workload: Workload, device: Device) -> Support:
        reason = _machine(device.preset).unsupported(workload, device)
        return Support.no(reason) if reason else Support.yes()

    def space(self, workload: Workload, device: Device) -> Space:
        return _machine(device.preset).space(workload, device)

    def default(self, workload: Workload, device: Device) -> Schedule:
        """The textbook mapping."""
        return self._complete(workload, device, {})

    def build(self, candidate: Candidate) -> Artifact:
        """A mapping is its schedule: the commands follow from it."""
        return Artifact(
            payload=str(candidate.device).encode(),
            kind=KIND,
            abi=ABI,
            entry="",
            workload=str(candidate.workload),
            schedule=candidate.schedule,
            toolchain="fettle-pim-1",
        )

    def load(self, artifact: Artifact) -> LoadedKernel:
        if (artifact.kind, artifact.abi) != (KIND, ABI):
            raise Unsupported(f"not a mapping of this version: {artifact.kind} {artifact.abi}")
        workload = Workload.parse(artifact.workload)
        device = self.device(DeviceText.parse(artifact.payload.decode()))
        return _Kernel(workload, _machine(device.preset).kernel(workload, device, artifact.schedule))

    def measure(
        self, kernel: LoadedKernel, operands: Sequence[Operand], out: np.ndarray, policy: MeasurePolicy
    ) -> Measurement:
        """Simulated seconds; exact, so every sample is the same."""
        if not isinstance(kernel, _Kernel):
            raise Unsupported("only mappings that this backend loaded can be timed")
        inputs, _ = split_constants(kernel.workload, operands)
        result = kernel.mapped.report(inputs)
        samples = (result.seconds,) * policy.samples
        counters = (("cycles", result.cycles), *result.commands)
        return Measurement(
            Outcome.OK, samples, Basis.SIMULATED, counters=counters, energy=result.energy, objective=result.seconds
        )

    def features(self, candidate: Candidate, artifact: Artifact | None) -> Mapping[str, float]:
        """What a mapping does how often, in closed form; see the family."""
        return _machine(candidate.device.preset).features(candidate.workload, candidate.device, candidate.schedule)

    def bound(self, workload: Workload, device: Device, profile: Profile) -> Bound:
        """Every operand moved once at the highest roof."""
        best = max(profile.roofs, key=lambda roof: roof.value)
        return Bound(workload.nbytes / best.value, best.name)

    def executor(self, device: Device) -> InProcessExecutor:
        return InProcessExecutor(self, device)

    def simulate(
        self, workload: Workload, device: Device, schedule: Mapping[str, Value], *, trace: bool = False
    ) -> Simulation:
        if not (support := self.supports(workload, device)):
            raise Unsupported(f"{device} cannot run {workload}: {support.reason}")
        kernel = _machine(device.preset).kernel(workload, device, self._complete(workload, device, schedule))
        result = kernel.report()
        return attrs.evolve(result, trace=kernel.trace()) if trace else result

    def simulate_trace(self, device: Device, lines: Iterable[str]) -> Simulation:
        return _machine(device.preset).time_trace(device, lines)

    def _complete(self, workload: Workload, device: Device, given: Mapping[str, Value]) -> Schedule:
        """A schedule with textbook values where ``given`` says nothing.

        Raises:
            InvalidArgument: an unknown parameter, a value that is no choice, or a violated constraint.
        """
        space = self.space(workload, device)
        if unknown := given.keys() - set(space.names):
            raise InvalidArgument(
                f"no parameter {min(unknown)!r} in schedules of {workload.operator} on {device}",
                hint=f"parameters: {' '.join(space.names)}",
            )
        textbook = _machine(device.preset).textbook(workload, device, given)
        schedule = Schedule.of(**{**textbook, **given})
        if (why := why_invalid(space, schedule)) is not None:
            raise InvalidArgument(f"not a schedule of {workload} on {device}: {why}")
        return schedule


def _machine(preset: str) -> Machine:
    for machine in _MACHINES:
        if preset in machine.presets():
            return machine
    known = " ".join(name for machine in _MACHINES for name in machine.presets())
    raise InvalidDevice(f"pim has no preset {preset!r}", hint=f"presets: {known}")
