"""The pim backend as the plugin contract wants it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
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
    Measurement,
    MeasurePolicy,
    Outcome,
    Profile,
    Roof,
    Schedule,
    Simulation,
    Space,
    Support,
    Value,
)
from fettle.backends.host.inprocess import InProcessExecutor
from fettle.backends.pim.attention import AttentionFamily
from fettle.backends.pim.device import NAME, Hardware, parse_device
from fettle.backends.pim.elementwise import ElementwiseFamily
from fettle.backends.pim.kernel import ABI, KIND, PimKernel
from fettle.backends.pim.mapping import Family, Mapped
from fettle.backends.pim.matmul import MatmulFamily
from fettle.backends.pim.preset import preset_names
from fettle.backends.pim.report import energy, simulation, time_program
from fettle.backends.pim.softmax import SoftmaxFamily
from fettle.backends.pim.trace import read_trace, write_trace
from fettle.backends.spaces import why_invalid
from fettle.graph.errors import InvalidArgument, Unsupported
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload

_FAMILIES: Mapping[str, Family] = {
    "matmul": MatmulFamily(),
    "attention": AttentionFamily(),
    "elementwise": ElementwiseFamily(),
    "softmax": SoftmaxFamily(),
}


class PimBackend(Backend):
    """Simulated memories that compute. Cycles come from a model, so nothing is ever measured."""

    name: ClassVar[str] = NAME

    def devices(self) -> Sequence[Device]:
        return tuple(self.device(DeviceText(NAME, preset)) for preset in preset_names())

    def device(self, text: DeviceText) -> Device:
        return parse_device(text)

    def profile(self, device: Device) -> Profile:
        """Roofs of the model: what its banks deliver to units and what its channels carry."""
        hardware = Hardware.of(device)
        org, timing = hardware.organisation, hardware.preset.timing
        second = 1e9 / org.clock_ns * org.channels * org.column_bytes
        inside = second * org.units / timing.get("CCDAB", timing["CCDL"])
        roofs = (Roof("read:units", inside), Roof("read:channels", second / timing["CCDS"]))
        return Profile(device.key, roofs)

    def supports(self, workload: Workload, device: Device) -> Support:
        family = _FAMILIES.get(workload.operator)
        if family is None:
            return Support.no(f"pim maps {' '.join(_FAMILIES)}")
        reason = family.unsupported(workload, Hardware.of(device))
        return Support.no(reason) if reason else Support.yes()

    def space(self, workload: Workload, device: Device) -> Space:
        return _FAMILIES[workload.operator].space(workload, Hardware.of(device))

    def default(self, workload: Workload, device: Device) -> Schedule:
        """The textbook mapping."""
        return self._complete(workload, device, {})

    def build(self, candidate: Candidate) -> Artifact:
        mapped = self._map(candidate.workload, candidate.device, candidate.schedule)
        return Artifact(
            payload="\n".join((str(candidate.device), *write_trace(mapped.program))).encode(),
            kind=KIND,
            abi=ABI,
            entry="",
            workload=str(candidate.workload),
            schedule=candidate.schedule,
            toolchain="fettle-pim-1",
            facts=(("instructions", len(mapped.program)),),
        )

    def load(self, artifact: Artifact) -> PimKernel:
        if (artifact.kind, artifact.abi) != (KIND, ABI):
            raise Unsupported(f"not a command program of this version: {artifact.kind} {artifact.abi}")
        workload = Workload.parse(artifact.workload)
        device = self.device(DeviceText.parse(artifact.payload.split(b"\n", 1)[0].decode()))
        mapped = self._map(workload, device, artifact.schedule)
        return PimKernel(workload, Hardware.of(device), _FAMILIES[workload.operator], mapped)

    def measure(
        self,
        kernel: PimKernel,
        operands: Sequence[Operand],
        out: np.ndarray,
        policy: MeasurePolicy,  # type: ignore[override]
    ) -> Measurement:
        """Simulated seconds; exact, so every sample is the same."""
        timing = time_program(kernel.mapped.program, kernel.hardware, kernel.mapped.slack)
        seconds = timing.cycles * kernel.hardware.organisation.clock_ns * 1e-9
        return Measurement(
            Outcome.OK,
            (seconds,) * policy.samples,
            Basis.SIMULATED,
            counters=(("cycles", timing.cycles),),
            energy=energy(timing, kernel.hardware),
        )

    def features(self, candidate: Candidate, artifact: Artifact | None) -> Mapping[str, float]:
        """None beyond the parameters."""
        return {}

    def bound(self, workload: Workload, device: Device, profile: Profile) -> Bound:
        """Every byte of a workload read from the banks once, at the units' rate."""
        best = max(profile.roofs, key=lambda roof: roof.value)
        return Bound(workload.nbytes / best.value, best.name)

    def executor(self, device: Device) -> InProcessExecutor:
        return InProcessExecutor(self, device)

    def simulate(
        self, workload: Workload, device: Device, schedule: Mapping[str, Value], *, trace: bool = False
    ) -> Simulation:
        if not (support := self.supports(workload, device)):
            raise Unsupported(f"{device} cannot run {workload}: {support.reason}")
        hardware = Hardware.of(device)
        complete = self._complete(workload, device, schedule)
        mapped = self._map(workload, device, complete)
        result = simulation(time_program(mapped.program, hardware, mapped.slack), hardware, complete)
        return attrs.evolve(result, trace=write_trace(mapped.program)) if trace else result

    def simulate_trace(self, device: Device, lines: Iterable[str]) -> Simulation:
        hardware = Hardware.of(device)
        program = read_trace(lines, hardware)
        return simulation(time_program(program, hardware), hardware, Schedule())

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
        textbook = _FAMILIES[workload.operator].textbook(workload, Hardware.of(device), given)
        schedule = Schedule.of(**{**textbook, **given})
        if (why := why_invalid(space, schedule)) is not None:
            raise InvalidArgument(f"not a schedule of {workload} on {device}: {why}")
        return schedule

    def _map(self, workload: Workload, device: Device, schedule: Schedule) -> Mapped:
        return mapped(workload, device, schedule)


@lru_cache(maxsize=64)
def mapped(workload: Workload, device: Device, schedule: Schedule) -> Mapped:
    """The search asks for the features, the artifact and the cycles of one mapping in turn."""
    return _FAMILIES[workload.operator].map(workload, Hardware.of(device), schedule)
