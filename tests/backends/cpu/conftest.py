from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fettle.backends.api import Artifact, Candidate, Device, DeviceText, Schedule
from fettle.backends.cpu import CpuBackend
from fettle.backends.cpu import device as cpu
from fettle.graph import data
from fettle.graph.workload import Workload
from tests.backends.cpu.errors import largest_error


@pytest.fixture(scope="session")
def backend() -> CpuBackend:
    return CpuBackend()


@pytest.fixture(scope="session")
def device(backend: CpuBackend) -> Device:
    return backend.device(DeviceText("cpu", "", (("threads", "1"),)))


@pytest.fixture(scope="session")
def artifact(backend: CpuBackend, device: Device) -> Artifact:
    """A small matmul with a packed constant."""
    workload = Workload.parse("matmul m=3 n=20 k=24 act=f32 weight=f32")
    return backend.build(Candidate(workload, device, backend.default(workload, device)))


@pytest.fixture(scope="session")
def error_of(backend: CpuBackend) -> Callable[[str, Device, Schedule], float]:
    """Build a schedule, run it on sampled data into a poisoned result: largest error in units of the tolerance."""

    def error(text: str, device: Device, schedule: Schedule) -> float:
        workload = Workload.parse(text)
        kernel = backend.load(backend.build(Candidate(workload, device, schedule)))
        operands = data.operands(workload, 7)
        constant = [t.constant for t in workload.operands]
        inputs = [np.asarray(o) for o, c in zip(operands, constant, strict=True) if not c]
        out = np.empty(workload.result.shape, workload.result.format.dtype)
        out.view(np.uint8).fill(0xFF)  # NaN, as floats
        kernel.run(inputs, kernel.pack([o for o, c in zip(operands, constant, strict=True) if c]), out)
        return largest_error(workload, operands, out)

    return error


@pytest.fixture(params=[level for level, isa in cpu.LEVELS.items() if isa <= cpu.Machine.detect().features])
def any_isa(request: pytest.FixtureRequest, backend: CpuBackend) -> Device:
    """A one-thread device for every ISA level this machine has."""
    return backend.device(DeviceText("cpu", "", (("isa", request.param), ("threads", "1"))))
