"""Ethos-U as one of the backend's machines: compiled for, asked about, never run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

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
from fettle.backends.host.machines import Machine, MappedKernel
from fettle.backends.npu.ethos import networks, systems, vela
from fettle.backends.npu.ethos.session import EstimateExecutor
from fettle.backends.npu.family import NAME
from fettle.graph.errors import Unsupported
from fettle.graph.workload import Workload

KIND = "ethos-u-tflite"
"""A TFLite file whose one operator is a command stream."""


class EthosMachine(Machine):
    """Everything that Vela compiles for."""

    abi: ClassVar[str] = "ethos-u-1"
    toolchain: ClassVar[str] = "vela"

    def presets(self) -> tuple[str, ...]:
        return systems.PRESETS

    def usable(self) -> bool:
        return vela.is_installed()

    def device(self, text: DeviceText) -> Device:
        return systems.parse_ethos(NAME, text)

    def roofs(self, device: Device) -> tuple[Roof, ...]:
        """All multiply-accumulate units busy in every cycle."""
        return (Roof("peak:i8", systems.peak(device)),)

    def unsupported(self, workload: Workload, device: Device) -> str:
        if not vela.is_installed():
            return "Ethos-U devices need Vela: pip install 'fettle-tuner[ethos]'"
        return networks.unsupported(workload)

    def space(self, workload: Workload, device: Device) -> Space:
        return vela.space(workload, device)

    def textbook(self, workload: Workload, device: Device, given: Mapping[str, Value]) -> dict[str, Value]:
        return vela.textbook(workload, device)

    def bound(self, workload: Workload, device: Device, profile: Profile) -> Bound:
        (peak,) = profile.roofs
        return Bound(workload.flops / peak.value, peak.name)

    def build(self, candidate: Candidate, kind: str) -> Artifact:
        """The compiled file, with Vela's figures as its facts.

        Raises:
            BuildFailure: see :func:`vela.compile_network`.
        """
        compiled = self._compile(candidate.workload, candidate.device, candidate.schedule)
        found = vela.simulation(compiled, candidate.schedule)
        facts = dict(found.counters) | dict(found.commands)
        del facts["toolchain"]
        facts |= {"seconds": found.seconds, "cycles": found.cycles, "dram_bytes": found.dram_bytes}
        return Artifact(
            payload=compiled.payload,
            kind=KIND,
            abi=self.abi,
            entry="",
            workload=str(candidate.workload),
            schedule=candidate.schedule,
            toolchain=vela.toolchain(),
            facts=tuple(facts.items()),
        )

    def executor(self, backend: Backend, device: Device) -> EstimateExecutor:
        return EstimateExecutor(backend, device)

    def kernel(self, workload: Workload, device: Device, schedule: Schedule) -> MappedKernel:
        raise Unsupported(f"files compiled for {device} cannot be run here", hint="fettle simulate asks for estimates")

    def simulate(self, workload: Workload, device: Device, schedule: Schedule, *, trace: bool) -> Simulation:
        return vela.simulation(self._compile(workload, device, schedule), schedule, trace=trace)

    def time_trace(self, device: Device, lines: Iterable[str]) -> Simulation:
        raise Unsupported(f"{device} times no command traces: Vela estimates networks that it compiles itself")

    def _compile(self, workload: Workload, device: Device, schedule: Schedule) -> vela.Compiled:
        return vela.compile_network(networks.write(workload, schedule.as_dict()), device, schedule)
