"""Codes and tables prepared once give the same bits as products that prepare their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from fettle.backends.api import Candidate, Device, DeviceText, Schedule
from fettle.backends.cpu import CpuBackend
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.gemm.spaces import REQUIRED
from fettle.backends.cpu.gemv.spaces import ISAS
from fettle.backends.host.verify import GuardedOutput, Verdict, verify
from fettle.backends.spaces import enumerate_space
from fettle.graph import data
from fettle.graph.workload import Workload

USABLE = cpu.features(cpu.default_device())


class Kernel:
    """A default schedule with values changed, built and loaded."""

    def __init__(self, backend: CpuBackend, workload: Workload, device: Device, **changes: Any) -> None:
        self.workload = workload
        self.schedule = Schedule.of(**(backend.default(workload, device).as_dict() | changes))
        self.kernel = backend.load(backend.build(Candidate(workload, device, self.schedule)))
        self.output = GuardedOutput(workload.result, workload.decode)

    def __call__(self, operands: Sequence[Any]) -> np.ndarray:
        """The result, into a poisoned buffer with guards around."""
        fixed = [o for t, o in zip(self.workload.operands, operands, strict=True) if t.constant]
        self.output.poison()
        self.kernel.run([operands[0]], self.kernel.pack(fixed), self.output.array)
        assert self.output.intact
        return self.output.array.copy()

    def verdict(self) -> Verdict:
        operands = data.operands(self.workload, 3)
        packed = self.kernel.pack(operands[1:])
        inputs = [np.asarray(operands[0])]
        return verify(self.kernel, inputs, packed, self.output, data.reference(self.workload, operands))


def runs(algorithm: str, isa: str) -> bool:
    return any(needed <= USABLE for needed in ISAS[algorithm, isa])


CASES = [
    *((1, "u4:64", "i8", {"algorithm": "integer", "isa": isa}) for isa in ("avx512", "avx2") if runs("integer", isa)),
    *((3, "bip1:64", "lut4", {"algorithm": "lut", "isa": isa}) for isa in ("avx512", "avx2") if runs("lut", isa)),
    *(
        [(9, "bip1:64", "i8", {"rows": 5}), (18, "u4:128:zp", "i8", {"rows": 6})]
        if REQUIRED["fields"] <= USABLE
        else []
    ),
]
"""Rows, weight, how x is prepared, and what the schedule says: both families, padded rows of x and a step of two."""


@pytest.mark.parametrize(("m", "weight", "element", "changes"), CASES)
def test_a_product_of_prepared_activations_has_the_bits_of_one_that_prepares_its_own(
    backend: CpuBackend, m: int, weight: str, element: str, changes: dict[str, Any]
) -> None:
    device = backend.device(DeviceText.parse("cpu,threads=2" if m == 18 else "cpu,threads=1"))
    act = f"{element}:{weight.split(':')[1]}/f32"
    own = Workload.parse(f"matmul m={m} n=40 k=256 act=bf16 weight={weight}")
    changes = changes if "rows" in changes else {"tile": 32, "blocks": 1, "unroll": 1, "batch": 1} | changes
    alone = Kernel(backend, own, device, **changes)
    prepare = Kernel(backend, Workload.of("quantize", rows=m, cols=256, act="bf16", out=act), device)
    reads = Kernel(
        backend, Workload.of("matmul", m=m, n=40, k=256, act=act, weight=weight, out="bf16"), device, **changes
    )
    x, w = data.operands(own, 0)
    assert (alone([x, w]).view(np.uint16) == reads([prepare([x]), w]).view(np.uint16)).all()
    assert reads.verdict().ok


@pytest.mark.parametrize("element", ["i8", "lut4"])
def test_every_schedule_prepares_the_same_words(backend: CpuBackend, element: str) -> None:
    workload = Workload.parse(f"quantize rows=3 cols=192 act=f32 out={element}:96/f32")
    device = backend.device(DeviceText.parse("cpu,threads=2"))
    points = enumerate_space(backend.space(workload, device))
    schedules = [points[index] for index in range(points.size)]
    assert backend.default(workload, device) in schedules
    assert {s["unroll"] for s in schedules} == {1, 2}  # 96 columns are six vectors
    (x,) = data.operands(workload, 0)
    kernels = [Kernel(backend, workload, device, **schedules[i].as_dict()) for i in (0, -1)]
    assert kernels[0].schedule != kernels[1].schedule
    first, last = (kernel([x]) for kernel in kernels)
    assert (first == last).all()
    assert kernels[0].verdict().ok


def test_groups_of_zeros_are_zeros(backend: CpuBackend, device: Device) -> None:
    workload = Workload.parse("quantize rows=1 cols=64 act=f32 out=i8:32/f32")
    words = Kernel(backend, workload, device)([np.zeros((1, 64), np.float32)])
    assert not words[:16].any()
    assert not words[18:].any()


def test_tables_are_read_by_look_ups_only_and_by_no_family_of_many_rows(backend: CpuBackend, device: Device) -> None:
    def algorithms(text: str) -> set[Any]:
        space = backend.space(Workload.parse(text), device)
        return {c for p in space.parameters if p.name == "algorithm" for c in p.choices}

    assert algorithms("matmul m=16 n=32 k=128 act=lut4:128/f32 weight=u2:128") == {"lut"}
    assert algorithms("matmul m=1 n=32 k=128 act=i8:128/f32 weight=u2:128") == {"integer"}


def test_a_machine_without_an_inner_loop_for_them_says_so(backend: CpuBackend) -> None:
    device = backend.device(DeviceText.parse("cpu,isa=portable"))
    support = backend.supports(Workload.parse("matmul m=1 n=32 k=128 act=i8:128/f32 weight=u2:128"), device)
    assert not support
    assert "i8:128/f32" in support.reason


@pytest.mark.skipif(not runs("lut", "avx2"), reason="needs AVX2")
@pytest.mark.parametrize("k", [16, 48, 96, 320])
def test_tables_are_made_of_four_to_sixteen_quads_at_once(backend: CpuBackend, k: int) -> None:
    device = backend.device(DeviceText.parse("cpu,threads=1"))
    workload = Workload.of("matmul", m=1, n=32, k=k, act="f32", weight="bip1:row")
    changes = {"algorithm": "lut", "isa": "avx2", "tile": 32, "blocks": 1, "unroll": 1}
    assert Kernel(backend, workload, device, **changes).verdict().ok
