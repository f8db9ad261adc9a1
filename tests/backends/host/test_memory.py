from __future__ import annotations

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from helpers import POLICY, alive, eventually

from fettle.backends.host import memory
from fettle.backends.host.executor import Executor
from fettle.backends.host.operands import SharedOperands
from fettle.graph import data
from fettle.graph.errors import ResourceExhausted
from fettle.graph.quantized import QuantizedWeight
from fettle.graph.workload import Workload


def test_a_workload_that_does_not_fit_is_refused_before_anything_is_allocated(
    executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "operands", lambda *_: pytest.fail("operands were generated"))
    huge = Workload.parse("matmul m=1 n=1000000 k=1000000 act=f32 weight=u1:128")
    with pytest.raises(ResourceExhausted) as caught:
        executor.open(huge, POLICY, 0)
    assert int(caught.value.details["needed_bytes"]) > 10**12
    assert int(caught.value.details["available_bytes"]) < memory.total()
    assert "GiB of memory" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "matmul m=4 n=512 k=256 act=bf16 weight=u4:128:zp",
        "matmul m=64 n=512 k=256 act=f32 weight=f32",
        "softmax rows=64 cols=1000 act=f32",
    ],
)
def test_the_estimate_covers_what_a_session_surely_holds(text: str) -> None:
    workload = Workload.parse(text)
    operands = data.operands(workload, 0)
    held = 0
    for operand in operands:
        arrays = [operand] if isinstance(operand, np.ndarray) else _parts(operand)
        held += sum(array.nbytes for array in arrays)
    reference = data.reference(workload, operands)
    shared = SharedOperands(workload, 0)
    assert shared.manifest.size >= held + reference.expected.nbytes + reference.tolerance.nbytes
    assert memory.session_need(workload) >= held + shared.manifest.size
    assert memory.session_need(workload) < 20 * shared.manifest.size
    shared.close()


def _parts(weight: QuantizedWeight) -> list[np.ndarray]:
    return [weight.codes, weight.scales] + ([] if weight.zero_points is None else [weight.zero_points])


def test_memory_of_children_counts() -> None:
    child = "import time; hoard = bytearray(64 << 20); print(flush=True); time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        assert 64 << 20 <= memory.used_by(process.pid) < 256 << 20
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert eventually(lambda: not alive(process.pid))
    assert memory.used_by(process.pid) == 0


def test_available_memory_is_part_of_the_total() -> None:
    assert 0 < memory.available() <= memory.total()


def test_a_control_groups_limit_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_cgroup_limits", lambda: [(100 << 20, 70 << 20), (1 << 50, 0)])
    assert memory.total() == 100 << 20
    assert memory.available() == 30 << 20
    monkeypatch.setattr(memory, "_cgroup_limits", lambda: [(100 << 20, 170 << 20)])
    assert memory.available() == 0
