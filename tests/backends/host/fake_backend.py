"""A backend whose kernels are NumPy functions that go wrong on request. Its schedule says how.

``build=`` and ``run=`` take what :func:`misbehave` knows; ``run=`` also wrong, nothing, stateful, nan, outside,
scribble, repack, outgrow, later, damage, order, slow, disturbed; ``build=`` also invalid and failure.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

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
    Parameter,
    Profile,
    Roof,
    Schedule,
    Space,
    Support,
)
from fettle.graph.errors import BuildFailure, Unsupported
from fettle.graph.quantized import Operand, QuantizedWeight
from fettle.graph.workload import Workload

DEVICE = Device("fake", facts={"cores": 2}, limits={"threads": 1})
PRELOADED = "FETTLE_FAKE_ENVIRONMENT"


def misbehave(how: str) -> None:
    """The failures that building and running share."""
    if how == "raise":
        raise RuntimeError("asked to raise")
    if how == "crash":
        print("about to touch address zero", flush=True)
        ctypes.string_at(0)
    if how == "hang":
        time.sleep(3600)
    if how == "spin":  # holding the interpreter lock
        ctypes.PyDLL(None).sleep(3600)
    if how == "memory":
        hoard = []
        while True:
            hoard.append(np.ones(1 << 22, np.uint8))
    if how == "exit":
        os._exit(7)
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how.startswith("killed once:"):  # and what was killed leaves a file
        with contextlib.suppress(FileExistsError):
            Path(how.partition(":")[2]).touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGKILL)
    if how == "child":
        print("child", subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid, flush=True)
        ctypes.string_at(0)
    if how == "print":
        os.write(1, b"n\0se " * (1 << 16))
        os.write(2, b"n\0se " * (1 << 16))


class FakeKernel:
    """A matrix product, sum of operands, or what the schedule asks for instead."""

    def __init__(self, workload: Workload, how: str, tag: int) -> None:
        self.workload = workload
        self.how = how
        self.tag = tag
        self.calls = 0

    def pack(self, constants: Sequence[Operand]) -> tuple[np.ndarray, ...]:
        FakeBackend.packings += 1
        return tuple(
            np.ascontiguousarray(c.dequantise(dtype=np.float32).T if isinstance(c, QuantizedWeight) else c)
            for c in constants
        )

    def run(self, inputs: Sequence[np.ndarray], packed: Sequence[np.ndarray], out: np.ndarray) -> None:
        self.calls += 1
        if self.how == "slow" or (self.how == "disturbed" and self.calls == 3):  # the third is the last untimed one
            time.sleep(0.02)
        if self.how == "repack":
            ctypes.memset(packed[0].ctypes.data, 0, 1)
        if self.how == "later" and self.calls > 4:
            misbehave("crash")
        if self.how == "damage":  # the next kernel in this process crashes
            FakeBackend.damaged = True
        elif FakeBackend.damaged:
            misbehave("crash")
        misbehave(self.how)
        if self.how == "nothing" or (self.how == "stateful" and self.calls > 1):
            return
        if self.how == "scribble":
            ctypes.memset(inputs[0].ctypes.data, 0, 1)
        x = inputs[0].astype(np.float64)
        out[...] = x @ packed[0].astype(np.float64) if self.workload.operator == "matmul" else np.maximum(x, 0)
        if self.how == "wrong":
            out[0, 1] += 1
        if self.how == "nan":
            out[0, 1] = np.nan
        if self.how == "outside":
            ctypes.memset(out.ctypes.data + out.nbytes, 0, 1)
        if self.how == "outgrow" and self.calls > 3:
            out[0, 0] += 1


class FakeBackend(Backend):
    name = "fake"
    prepared: Device | None = None
    packings = 0
    damaged = False
    measured = 0

    def devices(self) -> Sequence[Device]:
        return [DEVICE]

    def device(self, text: DeviceText) -> Device:
        return DEVICE

    def profile(self, device: Device) -> Profile:
        if device.limit("threads") == 0:
            raise Unsupported("no roofs here")
        return Profile(device.key, (Roof("read:dram", 1e9), Roof("peak:f32", float(os.getpid()))))

    def supports(self, workload: Workload, device: Device) -> Support:
        return Support.yes()

    def space(self, workload: Workload, device: Device) -> Space:
        return Space((Parameter("tag", (0, 1)),))

    def default(self, workload: Workload, device: Device) -> Schedule:
        return Schedule.of(tag=0)

    def build(self, candidate: Candidate) -> Artifact:
        schedule = candidate.schedule
        how = schedule.get("build", "ok")
        if how == "failure":
            raise BuildFailure("the compiler said no")
        if how == "invalid":
            raise Unsupported("this schedule cannot be")
        misbehave(how)
        time.sleep(schedule.get("build_s", 0.0))
        return Artifact(
            b"payload",
            "fake",
            "fake-1",
            "kernel",
            str(candidate.workload),
            schedule,
            weight_layout=schedule.get("layout", ""),
            facts=self.facts(),
        )

    def facts(self) -> dict[str, int | str | bool]:
        """What the process looks like from inside."""
        heavy = [name for name in ("grpc", "sqlalchemy", "torch") if sys.modules.get(name) is not None]
        return {
            "pid": os.getpid(),
            "cores": len(os.sched_getaffinity(0)),
            "host_cores": len(os.sched_getaffinity(os.getppid())),
            "environment": os.environ.get(PRELOADED, ""),
            "prepared": FakeBackend.prepared == DEVICE,
            "heavy": " ".join(heavy),
            "torch_blocked": "torch" in sys.modules and sys.modules["torch"] is None,
        }

    def load(self, artifact: Artifact) -> LoadedKernel:
        if artifact.abi != "fake-1":
            raise Unsupported(f"ABI {artifact.abi}")
        return FakeKernel(
            Workload.parse(artifact.workload), artifact.schedule.get("run", "ok"), artifact.schedule.get("tag", 0)
        )

    def measure(
        self, kernel: LoadedKernel, operands: Sequence[Operand], out: np.ndarray, policy: MeasurePolicy
    ) -> Measurement:
        assert isinstance(kernel, FakeKernel)  # backends insist on kernels of their own
        if kernel.how == "order":
            FakeBackend.measured += 1
            return Measurement(Outcome.OK, (float(FakeBackend.measured),), counters=(("pid", os.getpid()),))
        if kernel.how in ("no samples", "negative"):
            return Measurement(Outcome.OK, (1e-3, -1e-3) if kernel.how == "negative" else ())
        if kernel.how == "seconds":
            return 1e-3  # type: ignore[return-value]
        inputs = [np.asarray(operands[0])]
        packed = kernel.pack(operands[1:])
        samples = []
        for _ in range(policy.samples):
            started = time.perf_counter()
            kernel.run(inputs, packed, out)
            samples.append(time.perf_counter() - started)
        counters = {"pid": os.getpid(), "packings": FakeBackend.packings}
        return Measurement(Outcome.OK, samples, counters=tuple(counters.items()))

    def features(self, candidate: Candidate, artifact: Artifact | None) -> Mapping[str, float]:
        return {}

    def bound(self, workload: Workload, device: Device, profile: Profile) -> Bound:
        return Bound(1e-9, "read:dram")

    def worker_environment(self, device: Device) -> Mapping[str, str]:
        return {PRELOADED: "given"}

    def prepare_worker(self, device: Device) -> None:
        FakeBackend.prepared = device
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


class BrokenBackend(FakeBackend):
    """Cannot prepare a worker."""

    def prepare_worker(self, device: Device) -> None:
        raise Unsupported("no such hardware")
