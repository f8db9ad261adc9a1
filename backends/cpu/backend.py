"""The CPU backend as the plugin contract wants it; thin: families describe kernels, the modules beside run them."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from fettle.backends.api import (
    Artifact,
    Backend,
    Bound,
    Candidate,
    Device,
    DeviceText,
    LoadedKernel,
    Measurement,
    MeasurePolicy,
    Profile,
    Schedule,
    Space,
    Support,
)
from fettle.backends.cpu import codegen, crowding, loader, threads
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.attention import Attention
from fettle.backends.cpu.bound import workload_bound
from fettle.backends.cpu.conv import Conv
from fettle.backends.cpu.conv8 import Conv8
from fettle.backends.cpu.dense import Dense
from fettle.backends.cpu.dense8 import Dense8
from fettle.backends.cpu.family import Family
from fettle.backends.cpu.gemm import Gemm
from fettle.backends.cpu.gemv import Gemv
from fettle.backends.cpu.measure import measure
from fettle.backends.cpu.prepare import Prepare
from fettle.backends.cpu.profile import measure_profile
from fettle.backends.cpu.rows import Rows
from fettle.graph.errors import InvalidArgument, Unsupported
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload

FAMILIES: tuple[Family, ...] = (Dense(), Conv(), Conv8(), Dense8(), Gemm(), Gemv(), Rows(), Attention(), Prepare())
"""All kernel families; the first that supports a workload makes its kernels."""


class CpuBackend(Backend):
    """Kernels for the CPU of this machine."""

    name: ClassVar[str] = cpu.BACKEND

    def family(self, workload: Workload, device: Device) -> Family:
        """The family that makes kernels for a workload.

        Raises:
            Unsupported: none does; the reasons of those that make its operator are given.
        """
        return _family(workload, device)

    def devices(self) -> Sequence[Device]:
        return (cpu.default_device(),)

    def device(self, text: DeviceText) -> Device:
        return cpu.parse_device(text)

    def profile(self, device: Device) -> Profile:
        return measure_profile(device)

    def supports(self, workload: Workload, device: Device) -> Support:
        try:
            self.family(workload, device)
        except Unsupported as error:
            return Support.no(error.hint)
        return Support.yes()

    def space(self, workload: Workload, device: Device) -> Space:
        return self.family(workload, device).space(workload, device)

    def default(self, workload: Workload, device: Device) -> Schedule:
        return self.family(workload, device).default(workload, device)

    def build(self, candidate: Candidate) -> Artifact:
        family = self.family(candidate.workload, candidate.device)
        lowered = family.lower(candidate)
        payload, facts = codegen.compile(lowered, candidate.device, loader.ENTRY)
        count = int(candidate.schedule.get("threads", cpu.threads(candidate.device)))
        isa: list[str] = sorted({*codegen.isa(candidate.device), *lowered.isa})
        return Artifact(
            payload=payload,
            kind=loader.KIND,
            abi=loader.ABI,
            entry=loader.ENTRY,
            workload=str(candidate.workload),
            schedule=candidate.schedule,
            weight_layout=lowered.weight_layout,
            toolchain=codegen.toolchain(),
            isa=isa,
            facts=(*facts, ("family", family.name), ("threads", count)),
        )

    def program(self, candidate: Candidate) -> str:
        """TensorIR, as TVM prints it."""
        return str(self.family(candidate.workload, candidate.device).lower(candidate).function.script())

    def load(self, artifact: Artifact) -> LoadedKernel:
        name = dict(artifact.facts).get("family")
        for family in FAMILIES:
            if family.name == name:
                return loader.load(artifact, family)
        raise Unsupported(f"the artifact was built by the kernel family {name!r}, which this version lacks")

    def measure(
        self, kernel: LoadedKernel, operands: Sequence[Operand], out: np.ndarray, policy: MeasurePolicy
    ) -> Measurement:
        if not isinstance(kernel, loader.CpuKernel):
            raise InvalidArgument(f"not a kernel of the CPU backend: {type(kernel).__name__}")
        return measure(kernel, operands, out, policy)

    def features(self, candidate: Candidate, artifact: Artifact | None) -> Mapping[str, float]:
        family = self.family(candidate.workload, candidate.device)
        numbers = {**_workload_features(candidate.workload, candidate.device), **family.features(candidate)}
        if artifact is not None:
            numbers |= {
                f"code_{name}": float(value) for name, value in artifact.facts if isinstance(value, int | float)
            }
        return numbers

    def estimate(self, candidate: Candidate) -> float | None:
        return self.family(candidate.workload, candidate.device).estimate(candidate)

    def bound(self, workload: Workload, device: Device, profile: Profile) -> Bound:
        return workload_bound(workload, device, profile)

    def weight_layout(self, workload: Workload, device: Device, schedule: Schedule) -> str:
        return self.family(workload, device).weight_layout(workload, schedule)

    def worker_environment(self, device: Device) -> Mapping[str, str]:
        return {**threads.environment(cpu.threads(device)), crowding.VARIABLE: crowding.FIXED}

    def prepare_worker(self, device: Device) -> None:
        """Keep torch out, load the runtime library. Threads are pinned only while a kernel is timed."""
        threads.block_torch()
        threads.runtime()


@functools.lru_cache(maxsize=256)
def _family(workload: Workload, device: Device) -> Family:
    """Found once: features of thousands of schedules of a workload ask again and again."""
    reasons = []
    for family in FAMILIES:
        if workload.operator not in family.operators:
            continue
        support = family.supports(workload, device)
        if support:
            return family
        reasons.append(f"{family.name}: {support.reason}")
    if not reasons:
        made = sorted({operator for family in FAMILIES for operator in family.operators})
        reasons.append(f"the CPU backend makes {' '.join(made)}")
    raise Unsupported(f"no CPU kernel for {workload}", hint="; ".join(reasons))


@functools.lru_cache(maxsize=256)
def _workload_features(workload: Workload, device: Device) -> Mapping[str, float]:
    """Size, traffic and arithmetic intensity of the workload, as logarithms; the threads the device has."""
    flops, traffic = max(1, workload.flops), workload.nbytes
    return {
        "log_flops": float(np.log2(flops)),
        "log_bytes": float(np.log2(traffic)),
        "log_intensity": float(np.log2(flops / traffic)),
        "device_threads": float(cpu.threads(device)),
    }
