"""A whole fettle backend in one file: softmax by NumPy, a few rows at a time.

Its schedule says how many rows a chunk has (small chunks stay in cache, large ones call NumPy less often) and
whether the maximum is subtracted in place. A real backend compiles in ``build``; here the artifact is only a name.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence

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
from fettle.graph.errors import InvalidDevice, Unsupported
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload

ABI = "toy-1"


class ToyKernel:
    """What ``load`` returns: anything with ``pack`` and ``run``."""

    def __init__(self, chunk: int, in_place: bool) -> None:
        self.chunk = chunk
        self.in_place = in_place

    def pack(self, constants: Sequence[Operand]) -> tuple[np.ndarray, ...]:
        """Softmax has no constants."""
        return ()

    def run(self, inputs: Sequence[np.ndarray], packed: Sequence[np.ndarray], out: np.ndarray) -> None:
        """y[i, :] = exp(x[i, :] - max x[i, :]) / sum over the row."""
        (x,) = inputs
        for start in range(0, len(x), self.chunk):
            rows, result = x[start : start + self.chunk], out[start : start + self.chunk]
            top = rows.max(axis=1, keepdims=True)
            if self.in_place:
                np.subtract(rows, top, out=result)
                np.exp(result, out=result)
            else:
                result[...] = np.exp(rows - top)
            result /= result.sum(axis=1, keepdims=True)


class ToyBackend(Backend):
    """NumPy as a device. Instances hold no state: host and workers make their own."""

    name = "toy"

    # ---------------------------------------------------------------- devices: these run in the host

    def devices(self) -> Sequence[Device]:
        return [Device("toy", facts={"numpy": np.__version__}, label="NumPy")]

    def device(self, text: DeviceText) -> Device:
        text.only()
        if text.preset:
            raise InvalidDevice("the toy device has no presets", hint="write --device toy")
        return self.devices()[0]

    # --------------------------------------------------- what can be tuned: these run in the host, too

    def supports(self, workload: Workload, device: Device) -> Support:
        if workload.operator != "softmax":
            return Support.no("the toy backend knows softmax only")
        if str(workload["act"]) != "f32":
            return Support.no(f"the toy backend computes f32 only, not {workload['act']}")
        return Support.yes()

    def space(self, workload: Workload, device: Device) -> Space:
        return Space((Parameter.divisors("chunk", workload["rows"]), Parameter("in_place", (False, True))))

    def default(self, workload: Workload, device: Device) -> Schedule:
        return Schedule.of(chunk=workload["rows"], in_place=False)

    def features(self, candidate: Candidate, artifact: Artifact | None) -> Mapping[str, float]:
        chunk, cols = candidate.schedule["chunk"], candidate.workload["cols"]
        return {"calls": candidate.workload["rows"] / chunk, "chunk_bytes": 4.0 * chunk * cols}

    def bound(self, workload: Workload, device: Device, profile: Profile) -> Bound:
        read = profile.roof("read:numpy", threads=1)
        assert read is not None
        return Bound(4.0 * workload["rows"] * workload["cols"] / read.value, read.name)

    # --------------------------------------------- these run in worker processes, and may crash or hang

    def profile(self, device: Device) -> Profile:
        data = np.ones(1 << 14, np.float32)  # small enough for any first cache

        def best_of(repeats: int) -> float:
            times = []
            for _ in range(repeats):
                start = time.perf_counter()
                for _ in range(100):
                    data.max()
                times.append((time.perf_counter() - start) / 100)
            return min(times)

        return Profile(device.key, (Roof("read:numpy", data.nbytes / best_of(20), 1, data.nbytes),))

    def build(self, candidate: Candidate) -> Artifact:
        return Artifact(
            payload=b"",
            kind="numpy",
            abi=ABI,
            entry="softmax",
            workload=str(candidate.workload),
            schedule=candidate.schedule,
            toolchain=f"numpy-{np.__version__}",
        )

    def load(self, artifact: Artifact) -> LoadedKernel:
        if artifact.abi != ABI:
            raise Unsupported(f"ABI {artifact.abi!r} is not {ABI}")
        return ToyKernel(artifact.schedule["chunk"], artifact.schedule["in_place"])

    def measure(
        self, kernel: LoadedKernel, operands: Sequence[Operand], out: np.ndarray, policy: MeasurePolicy
    ) -> Measurement:
        inputs = [np.asarray(operand) for operand in operands]
        return Measurement(Outcome.OK, policy.sample(lambda: kernel.run(inputs, (), out)))

    def prepare_worker(self, device: Device) -> None:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one core: times are comparable
