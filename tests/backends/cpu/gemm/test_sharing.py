"""One packed copy serves one row of x and many."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fettle.backends.api import Candidate, DeviceText, Schedule
from fettle.backends.cpu import CpuBackend
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.gemm import spaces
from fettle.graph import data
from fettle.graph.quantized import QuantizedWeight
from fettle.graph.workload import Workload

ALGORITHMS = {"fields": "integer", "planes": "lut"}


@pytest.mark.parametrize(
    "order", [o for o, needed in spaces.REQUIRED.items() if needed <= cpu.features(cpu.default_device())]
)
@pytest.mark.parametrize("kind", ["u3:64", "tern:128", "u4:32:zp"])
@pytest.mark.parametrize("together", [1, 2])
def test_the_arrays_packed_for_one_row_serve_many(
    backend: CpuBackend, build: Any, order: str, kind: str, together: int
) -> None:
    one = Workload.parse(f"matmul m=1 n=70 k=200 act=f32 weight={kind}")
    device = backend.device(DeviceText.parse("cpu,threads=1"))
    start = backend.default(one, device).as_dict() | {"algorithm": ALGORITHMS[order], "isa": "avx512", "tile": 32}
    gemv = backend.build(Candidate(one, device, Schedule.of(**(start | {"unroll": 1, "blocks": together, "batch": 1}))))
    gemm = build(
        str(one).replace("m=1 ", "m=16 "), order=order, tile=32, interleave=together, panel=32, vectors=1, unroll=1
    )
    assert gemv.weight_layout == gemm.artifact.weight_layout
    x, weight = data.operands(gemm.workload, 0)
    assert isinstance(weight, QuantizedWeight)
    kernel = backend.load(gemv)
    packed = kernel.pack([weight])
    row = np.empty((1, 70), np.float32)
    kernel.run([np.ascontiguousarray(np.asarray(x)[:1])], packed, row)
    reference = data.reference(gemm.workload, [x, weight])
    for result in (gemm([x, weight], packed), row):
        rows = slice(0, result.shape[0])
        assert (np.abs(result - reference.expected[rows]) <= reference.tolerance[rows]).all()
