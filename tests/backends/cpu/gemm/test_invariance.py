"""``invariant=true``: no bit of a row's result depends on how many rows there are, or on the schedule."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fettle.backends.api import DeviceText
from fettle.backends.cpu import CpuBackend
from fettle.backends.cpu import device as cpu
from fettle.backends.spaces import enumerate_space
from fettle.graph import data
from fettle.graph.prepared import PreparedFormat
from fettle.graph.workload import Workload

LEVELS = [level for level, needed in cpu.LEVELS.items() if needed <= cpu.Machine.detect().features][1:]


@pytest.mark.parametrize("isa", LEVELS)
@pytest.mark.parametrize("compute", ["i8", "f32"])
def test_any_schedule_of_any_m_gives_a_row_the_same_bits(
    backend: CpuBackend, build: Any, isa: str, compute: str
) -> None:
    device = backend.device(DeviceText.parse(f"cpu,isa={isa}"))
    text = "matmul m={} n=70 k=200 act=f32 weight=u4:64:zp invariant=true compute=" + compute
    x, weight = data.operands(Workload.parse(text.format(17)), 0)
    rng = np.random.default_rng(0)
    expected = None
    for m in (1, 17) if compute == "f32" else (1, 8, 17):
        workload = Workload.parse(text.format(m))
        points = enumerate_space(backend.space(workload, device))
        for schedule in (backend.default(workload, device), points[int(rng.integers(len(points)))]):
            result = build(str(workload), str(device), schedule=schedule)([np.asarray(x)[:m], weight])
            expected = result[0].tobytes() if expected is None else expected
            assert result[0].tobytes() == expected, f"{workload} {schedule}"


@pytest.mark.parametrize(
    ("act", "weight"), [("f32", "bcq2:64"), ("lut4:64/f32", "bip1:64")], ids=["binary-coded weights", "tables"]
)
def test_what_this_family_does_not_make_is_invariant_too(
    backend: CpuBackend, build: Any, act: str, weight: str
) -> None:
    device = backend.device(DeviceText.parse("cpu,isa=avx512vnni"))
    text = f"matmul m={{}} n=70 k=192 act={act} weight={weight} out=f32 invariant=true"
    numbers, packed = data.operands(Workload.parse(f"matmul m=9 n=70 k=192 act=f32 weight={weight}"), 0)
    rng = np.random.default_rng(1)
    rows = set()
    for m in (1, 9):
        workload = Workload.parse(text.format(m))
        x = np.asarray(numbers)[:m] if act == "f32" else PreparedFormat.parse(act).prepare(np.asarray(numbers)[:m])
        points = enumerate_space(backend.space(workload, device))
        for schedule in (backend.default(workload, device), points[int(rng.integers(len(points)))]):
            rows.add(build(str(workload), str(device), schedule=schedule)([x, packed])[0].tobytes())
    assert len(rows) == 1
