"""The Triton backend as the plugin contract wants it; thin: families describe kernels, the modules beside run them."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import attrs
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
    Outcome,
    Profile,
    Roof,
    Schedule,
    Space,
    Support,
)
from fettle.backends.triton import program
from fettle.backends.triton.attention import Attention
from fettle.backends.triton.dense import Dense
from fettle.backends.triton.family import Family
from fettle.backends.triton.gpu.driver import Driver, open_gpu
from fettle.backends.triton.gpu.kernel import GpuKernel
from fettle.backends.triton.gpu.measure import measure
from fettle.backends.triton.gpu.roofs import measure_roofs
from fettle.backends.triton.interpreter.kernel import InterpretedKernel
from fettle.backends.triton.lossless import Lossless
from fettle.backends.triton.lowbit import LowBit
from fettle.backends.triton.plan import main_launch
from fettle.backends.triton.predict import predict
from fettle.backends.triton.rows import Rows
from fettle.backends.triton.targets import TARGETS, Target, find_target
from fettle.graph.errors import BuildFailure, InvalidArgument, Unsupported
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload

if TYPE_CHECKING:
    from fettle.backends.host.executor import Executor

FAMILIES: tuple[Family, ...] = (LowBit(), Dense(), Attention(), Rows(), Lossless())
"""All kernel families; the first that supports a workload makes its kernels."""

INTERPRETER = "interpreter"
"""The preset of the device that runs kernels on the CPU, slowly, to prove them right."""

_INTERPRETED = attrs.evolve(TARGETS["sm_90"], multiprocessors=3)
"""Whose spaces the interpreter runs: one program after another, so few of them, each with some work."""

_INSTALL = "pip install 'fettle-tuner[triton]' (Triton 3.6 and cuda-bindings, Linux)"


class TritonBackend(Backend):
    """Kernels for CUDA and AMD GPUs: compiled and predicted anywhere, proven in the interpreter."""

    name: ClassVar[str] = "triton"

    def __init__(self, open_gpu: Callable[[int], Driver] = open_gpu) -> None:
        if not (_installed("triton") or _installed("cuda")):
            raise Unsupported("neither Triton nor cuda-bindings is installed", hint=_INSTALL)
        self._open_gpu = functools.cache(open_gpu)
        self._index = 0

    def family(self, workload: Workload, device: Device) -> Family:
        """The family that makes kernels for a workload.

        Raises:
            Unsupported: none does; the reasons are given.
        """
        reasons = []
        for family in FAMILIES:
            support = family.supports(workload, target_of(device))
            if support:
                return family
            reasons.append(f"{family.name}: {support.reason}")
        raise Unsupported(f"no Triton kernel for {workload}", hint="; ".join(reasons))

    def devices(self) -> Sequence[Device]:
        """The first GPU, if there is one; compile targets are no hardware that is present."""
        try:
            return (self._gpu(0),)
        except Unsupported:
            return ()

    def device(self, text: DeviceText) -> Device:
        if not text.preset.isdecimal() and not _installed("triton"):  # a GPU runs stored kernels without
            raise Unsupported("Triton is not installed, so nothing can be compiled here", hint=_INSTALL)
        text.only()
        if text.preset == INTERPRETER:
            return Device(self.name, INTERPRETER, label="Triton's interpreter, as for sm_90")
        if text.preset.isdecimal():
            return self._gpu(int(text.preset))
        target = find_target(text.preset)
        facts = {
            "part": target.part,
            "multiprocessors": target.multiprocessors,
            "shared_block": target.shared_block,
            "l2": target.l2,
        }
        return Device(self.name, target.name, tuple(facts.items()), label=f"{target.part}, compiled for but not there")

    def _gpu(self, index: int) -> Device:
        """A GPU that is there. Raises Unsupported."""
        found = self._open_gpu(index).facts
        if f"sm_{found.capability}" not in TARGETS:
            raise Unsupported(
                f"{found.name} has compute capability {found.capability / 10}, for which nothing is known",
                hint=f"known are {' '.join(name for name, known in TARGETS.items() if known.kind == 'cuda')}",
            )
        facts = {name: value for name, value in attrs.asdict(found).items() if name != "memory"}
        return Device(self.name, str(index), tuple(facts.items()), label=found.name)

    def profile(self, device: Device) -> Profile:
        """A GPU's measured roofs; of a compile target what the data sheet says, and the roofs' names say so."""
        target = target_of(device)
        if device.preset.isdecimal():
            return measure_roofs(self._open_gpu(int(device.preset)), device.key, target)
        roofs = [Roof(f"peak:{unit}@sheet", peak) for unit, peak in target.peaks.items()]
        return Profile(device.key, (Roof("read:dram@sheet", target.bandwidth), *roofs))

    def supports(self, workload: Workload, device: Device) -> Support:
        try:
            self.family(workload, device)
        except Unsupported as error:
            return Support.no(error.hint)
        return Support.yes()

    def space(self, workload: Workload, device: Device) -> Space:
        return self.family(workload, device).space(workload, target_of(device))

    def default(self, workload: Workload, device: Device) -> Schedule:
        return self.family(workload, device).default(workload, target_of(device))

    def build(self, candidate: Candidate) -> Artifact:
        if not _installed("triton"):
            raise Unsupported("Triton is not installed", hint=_INSTALL)
        target = target_of(candidate.device)
        family = self.family(candidate.workload, candidate.device)
        plan = family.plan(candidate.workload, candidate.schedule, target)
        interpreted = candidate.device.preset == INTERPRETER
        built = program.build(candidate, plan, target, family.name, interpreted=interpreted)
        if candidate.device.preset.isdecimal() and isinstance(why := predict(program.Program.of(built), target), str):
            raise BuildFailure(f"cannot be loaded: {why}")
        return built

    def load(self, artifact: Artifact) -> LoadedKernel:
        found = program.Program.of(artifact)
        name = dict(artifact.facts).get("family")
        family = next((f for f in FAMILIES if f.name == name), None)
        if family is None:
            raise Unsupported(f"the artifact was built by the kernel family {name!r}, which this version lacks")
        workload = Workload.parse(artifact.workload)
        if artifact.kind == program.PLAN:
            return InterpretedKernel(found, family, workload, artifact.schedule)
        return GpuKernel(self._open_gpu(self._index), found, family, workload, artifact.schedule)

    def measure(
        self, kernel: LoadedKernel, operands: Sequence[Operand], out: np.ndarray, policy: MeasurePolicy
    ) -> Measurement:
        if isinstance(kernel, InterpretedKernel):
            return Measurement.failure(Outcome.RUN_ERROR, "the interpreter proves kernels; it does not time them")
        if isinstance(kernel, GpuKernel):
            return measure(kernel, operands, out, policy)
        raise InvalidArgument(f"not a kernel of the Triton backend: {type(kernel).__name__}")

    def features(self, candidate: Candidate, artifact: Artifact | None) -> Mapping[str, float]:
        """Programs, waves, work and traffic of the main launch, as logarithms; facts of the machine code."""
        target = target_of(candidate.device)
        plan = self.family(candidate.workload, candidate.device).plan(candidate.workload, candidate.schedule, target)
        main = main_launch(plan.launches)
        numbers = {
            "launches": float(len(plan.launches)),
            "log_programs": float(np.log2(main.programs)),
            "waves": float(-(-main.programs // target.multiprocessors)),
            "log_bytes": float(np.log2(sum(launch.work.bytes for launch in plan.launches))),
            "log_flops": float(np.log2(max(main.work.flops, 1.0))),
            "log_trips": float(np.log2(max(main.work.trips, 1.0))),
        }
        if artifact is not None:
            numbers |= {f"code_{k}": float(v) for k, v in artifact.facts if isinstance(v, int | float)}
        return numbers

    def bound(self, workload: Workload, device: Device, profile: Profile) -> Bound:
        """Every operand read once and the result written once, or all arithmetic at the highest peak."""
        if profile.device_key != device.key:
            raise InvalidArgument("the profile was taken of another device")
        memory = next(roof for roof in profile.roofs if ":dram" in roof.name)
        traffic = float(sum(tensor.nbytes for tensor in (*workload.operands, workload.result)))
        if workload.operator == "lossless":  # of a weight, signs and mantissas alone cannot be coded shorter
            traffic -= workload.operands[0].nbytes / 2
        compute = workload.values["compute"].kind if "compute" in workload.values else ""
        units = {"f16", {"i8": "i8", "f8e4m3": "f8"}.get(compute, "f16")}
        peaks = [profile.roof(f"peak:{unit}", 1) or profile.roof(f"peak:{unit}@sheet", 1) for unit in units]
        peak = max((roof for roof in peaks if roof is not None), key=lambda roof: roof.value)
        bounds = (Bound(traffic / memory.value, memory.name), Bound(workload.flops / peak.value, peak.name))
        return max(bounds, key=lambda bound: bound.seconds)

    def executor(self, device: Device) -> Executor | None:
        if device.preset.isdecimal():
            from fettle.backends.host.local import LocalExecutor

            return LocalExecutor(self, device, isolated=False)
        if device.preset not in TARGETS:
            return None
        from fettle.backends.triton.executor import CompileExecutor

        return CompileExecutor(self, device)

    def weight_layout(self, workload: Workload, device: Device, schedule: Schedule) -> str:
        return self.family(workload, device).weight_layout(workload, schedule)

    def worker_environment(self, device: Device) -> Mapping[str, str]:
        """Triton decides when it is imported whether it compiles or interprets."""
        return {"TRITON_INTERPRET": "1" if device.preset == INTERPRETER else "0"}

    def prepare_worker(self, device: Device) -> None:
        self._index = int(device.preset) if device.preset.isdecimal() else 0


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def target_of(device: Device) -> Target:
    """The compile target of a device; of a GPU that is there, with the sizes it has itself."""
    if device.preset == INTERPRETER:
        return _INTERPRETED
    if not device.preset.isdecimal():
        return find_target(device.preset)
    sizes = {name: device.fact(name) for name in ("multiprocessors", "clock", "l2", "shared_block")}
    return attrs.evolve(find_target(f"sm_{device.fact('capability')}"), part=device.fact("name"), **sizes)
