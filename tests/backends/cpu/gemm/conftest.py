"""Build, load and run one kernel of the family on unkind buffers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import numpy as np
import pytest

from fettle.backends.api import Artifact, Candidate, DeviceText, Schedule
from fettle.backends.cpu import CpuBackend
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.gemm import spaces
from fettle.graph import data
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload
from tests.backends.cpu.errors import largest_error

GUARD = 77.0


@attrs.frozen(eq=False)
class Built:
    """A loaded kernel."""

    workload: Workload
    artifact: Artifact
    kernel: Any

    def __call__(self, operands: Sequence[Operand], packed: Sequence[np.ndarray] | None = None) -> np.ndarray:
        """Run on arrays one element past a cache line; nothing around the result may change."""
        x, weight = operands
        shape, dtype = self.workload.result.shape, self.workload.result.format.dtype
        size = int(np.prod(shape))
        guarded = np.full(size + 65, GUARD).astype(dtype)
        out = guarded[33 : 33 + size].reshape(shape)
        out[...] = np.nan
        flat = np.empty(np.asarray(x).size + 1, np.asarray(x).dtype)
        inputs = flat[1:].reshape(np.asarray(x).shape)
        inputs[...] = x
        self.kernel.run([inputs], packed or self.kernel.pack([weight]), out)
        assert (guarded[:33] == GUARD).all()
        assert (guarded[33 + size :] == GUARD).all()
        return out

    def error(self, seed: int = 0) -> float:
        """On sampled operands: see :func:`largest_error`."""
        operands = data.operands(self.workload, seed)
        return largest_error(self.workload, operands, self(operands))


@pytest.fixture(scope="session")
def backend() -> CpuBackend:
    if not spaces.REQUIRED["fields"] <= cpu.features(cpu.default_device()):
        pytest.skip("needs AVX-512 VNNI")
    return CpuBackend()


@pytest.fixture(scope="session")
def build(backend: CpuBackend) -> Callable[..., Built]:
    """``build("matmul …", "cpu,threads=1", rows=8)``: the default schedule with values changed, or a given one."""

    def built(text: str, device: str = "cpu", schedule: Schedule | None = None, **changes: Any) -> Built:
        workload, where = Workload.parse(text), backend.device(DeviceText.parse(device))
        chosen = schedule or Schedule.of(**(backend.default(workload, where).as_dict() | changes))
        artifact = backend.build(Candidate(workload, where, chosen))
        return Built(workload, artifact, backend.load(artifact))

    return built
