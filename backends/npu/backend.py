"""The npu backend as the plugin contract wants it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from fettle.backends.npu.ethos import networks, vela
from fettle.backends.npu.family import Family
from fettle.backends.npu.systolic.attention import AttentionFamily
from fettle.backends.npu.systolic.hardware import PRESET, Systolic, parse_systolic
from fettle.backends.npu.systolic.matmul import MatmulFamily
from fettle.backends.npu.systolic.vector import VECTOR_OPERATORS, VectorFamily
from fettle.backends.spaces import why_invalid
from fettle.graph.errors import InvalidArgument, InvalidDevice, Unsupported
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload

NAME = "npu"
KIND = "npu-mapping"
ABI = "npu-systolic-1"

_FAMILIES: Mapping[str, Family] = {
    "matmul": MatmulFamily(),
    "attention": AttentionFamily(),
    **dict.fromkeys(VECTOR_OPERATORS, VectorFamily()),
}


@attrs.frozen(eq=False)
class NpuKernel:
    """A loaded mapping; computes by executing its tiles on data."""

    workload: Workload
    hardware: Systolic
    schedule: Schedule

    @property
    def family(self) -> Family:
        return _FAMILIES[self.workload.operator]

    def pack(self, constants: Sequence[Operand]) -> tuple[np.ndarray, ...]:
        """Constants as the array takes them."""
        return tuple(self.family.pack(self.workload, constants))

    def run(self, inputs: Sequence[np.ndarray], packed: Sequence[np.ndarray], out: np.ndarray) -> None:
        """Execute the mapping."""
        self.family.compute(self.workload, self.hardware, self.schedule, inputs, packed, out)


class NpuBackend(Backend):
    """Simulated NPUs. Cycles come from a model, so nothing is ever measured."""

    name: ClassVar[str] = NAME

    def devices(self) -> Sequence[Device]:
        return (self.device(DeviceText(NAME, PRESET)),)

    def device(self, text: DeviceText) -> Device:
        if text.preset in vela.PRESETS:
            return vela.parse_ethos(NAME, text)
        if text.preset != PRESET:
            presets = " ".join((PRESET, *vela.PRESETS))
            raise InvalidDevice(f"the npu backend has no preset {text.preset!r}", hint=f"presets: {presets}")
        return parse_systolic(NAME, text)

    def profile(self, device: Device) -> Profile:
        """Roofs of the model: what its elements compute and its memory delivers."""
        h = Systolic.of(device)
        second = h.clock * 1e6
        peak = Roof("peak:i8", 2.0 * h.rows * h.cols * h.arrays * second)
        return Profile(device.key, (peak, Roof("read:dram", h.bandwidth * second)))

    def supports(self, workload: Workload, device: Device) -> Support:
        if device.preset != PRESET:
            return Support.no("Vela estimates cycles but computes no result to verify; ask fettle simulate")
        family = _FAMILIES.get(workload.operator)
        if family is None:
            return Support.no(f"the npu maps {' '.join(_FAMILIES)}")
        reason = family.unsupported(workload, Systolic.of(device))
        return Support.no(reason) if reason else Support.yes()

    def space(self, workload: Workload, device: Device) -> Space:
        return _FAMILIES[workload.operator].space(workload, Systolic.of(device))

    def default(self, workload: Workload, device: Device) -> Schedule:
        """The textbook mapping."""
        return self._complete(workload, device, {})

    def build(self, candidate: Candidate) -> Artifact:
        return Artifact(
            payload=str(candidate.device).encode(),
            kind=KIND,
            abi=ABI,
            entry="",
            workload=str(candidate.workload),
            schedule=candidate.schedule,
            toolchain="fettle-systolic-1",
        )

    def load(self, artifact: Artifact) -> NpuKernel:
        if (artifact.kind, artifact.abi) != (KIND, ABI):
            raise Unsupported(f"not a mapping of this version: {artifact.kind} {artifact.abi}")
        device = self.device(DeviceText.parse(artifact.payload.decode()))
        return NpuKernel(Workload.parse(artifact.workload), Systolic.of(device), artifact.schedule)

    def measure(
        self,
        kernel: NpuKernel,  # type: ignore[override]
        operands: Sequence[Operand],
        out: np.ndarray,
        policy: MeasurePolicy,
    ) -> Measurement:
        """Simulated seconds; exact, so every sample is the same."""
        result = kernel.family.simulate(kernel.workload, kernel.hardware, kernel.schedule)
        counters = (("cycles", result.cycles), ("dram_bytes", result.dram_bytes), *result.counters)
        samples = (result.seconds,) * policy.samples
        return Measurement(
            Outcome.OK, samples, Basis.SIMULATED, counters=counters, energy=result.energy, objective=result.seconds
        )

    def features(self, candidate: Candidate, artifact: Artifact | None) -> Mapping[str, float]:
        family = _FAMILIES[candidate.workload.operator]
        return family.features(candidate.workload, Systolic.of(candidate.device), candidate.schedule)

    def bound(self, workload: Workload, device: Device, profile: Profile) -> Bound:
        return _FAMILIES[workload.operator].bound(workload, Systolic.of(device))

    def executor(self, device: Device) -> InProcessExecutor:
        return InProcessExecutor(self, device)

    def weight_layout(self, workload: Workload, device: Device, schedule: Schedule) -> str:
        return "plain"

    def simulate(
        self, workload: Workload, device: Device, schedule: Mapping[str, Value], *, trace: bool = False
    ) -> Simulation:
        if device.preset != PRESET:
            return self._estimate(workload, device, schedule)
        support = self.supports(workload, device)
        if not support:
            raise Unsupported(f"{device} cannot run {workload}: {support.reason}")
        complete = self._complete(workload, device, schedule)
        return _FAMILIES[workload.operator].simulate(workload, Systolic.of(device), complete, trace=trace)

    def _estimate(self, workload: Workload, device: Device, given: Mapping[str, Value]) -> Simulation:
        if reason := networks.unsupported(workload):
            raise Unsupported(f"{device} cannot run {workload}: {reason}")
        schedule = _checked(vela.space(workload), {**vela.textbook(workload), **given})
        return vela.estimate(workload, device, schedule)

    def _complete(self, workload: Workload, device: Device, given: Mapping[str, Value]) -> Schedule:
        family, hardware = _FAMILIES[workload.operator], Systolic.of(device)
        textbook = family.textbook(workload, hardware, given)
        return _checked(family.space(workload, hardware), {**textbook, **given})


def _checked(space: Space, values: Mapping[str, Value]) -> Schedule:
    schedule = Schedule(tuple(values.items()))
    if (why := why_invalid(space, schedule)) is not None:
        raise InvalidArgument(f"not a schedule of this workload: {why}")
    return schedule
