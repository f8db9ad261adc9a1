"""Build, load and run one kernel of the family, the way the backend does, on unkind buffers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import attrs
import numpy as np
import pytest

from fettle.backends.api import Candidate, Device, DeviceText, Schedule
from fettle.backends.cpu import CpuBackend
from fettle.backends.cpu.gemv import spaces
from fettle.graph import data
from fettle.graph.quantized import Operand, QuantizedWeight
from fettle.graph.workload import Workload
from tests.backends.cpu.errors import largest_error

GUARD = 77.0


def misaligned(array: np.ndarray) -> np.ndarray:
    """A copy one element past a 64-byte boundary."""
    raw = np.empty(array.nbytes + 128, np.uint8)
    start = -raw.ctypes.data % 64 + array.dtype.itemsize
    copy = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


@attrs.frozen(eq=False)
class Built:
    """A loaded kernel."""

    workload: Workload
    schedule: Schedule
    kernel: Any

    def __call__(self, operands: Sequence[Operand]) -> np.ndarray:
        """Run on misaligned arrays and a poisoned result; nothing around the result may change."""
        x, weight = operands
        assert isinstance(weight, QuantizedWeight)
        packed = [misaligned(p) for p in self.kernel.pack([weight])]
        shape, dtype = self.workload.result.shape, self.workload.result.format.dtype
        size = int(np.prod(shape))
        guarded = misaligned(np.full(size + 64, GUARD).astype(dtype))
        out = guarded[32 : 32 + size].reshape(shape)
        out[...] = np.nan
        self.kernel.run([misaligned(np.asarray(x))], packed, out)
        assert (guarded[:32] == GUARD).all()
        assert (guarded[32 + size :] == GUARD).all()
        return out

    def error(self, seed: int = 0) -> float:
        """On sampled operands: see :func:`largest_error`."""
        operands = data.operands(self.workload, seed)
        return largest_error(self.workload, operands, self(operands))


class Build(Protocol):
    """Signature of the fixture ``build``."""

    def __call__(self, text: str, device: str = "cpu", **schedule: Any) -> Built: ...


def adapted(workload: Workload, device: Device, changes: dict[str, Any]) -> Schedule:
    """The default schedule with some values changed; the rest is made to fit an inner loop other than the default's."""
    start = spaces.default(workload, device).as_dict()
    if changes:
        start |= {"threads": 1, "preparation": "private", "unroll": 1, "batch": 1, "blocks": 1}
    return Schedule.of(**(start | changes))


@pytest.fixture(scope="session")
def backend() -> CpuBackend:
    return CpuBackend()


@pytest.fixture(scope="session")
def load(backend: CpuBackend) -> Callable[[Candidate], Built]:
    """Build and load a candidate, as a worker does."""
    return lambda c: Built(c.workload, c.schedule, backend.load(backend.build(c)))


@pytest.fixture(scope="session")
def build(backend: CpuBackend, load: Callable[[Candidate], Built]) -> Build:
    """``build("matmul …", "cpu,isa=avx2", algorithm="lut", …)``."""

    def built(text: str, device: str = "cpu", **changes: Any) -> Built:
        workload, where = Workload.parse(text), backend.device(DeviceText.parse(device))
        schedule = adapted(workload, where, changes)
        return load(Candidate(workload, where, schedule))

    return built
