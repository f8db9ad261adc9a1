"""Products of 8-bit codes with a constant weight."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fettle.backends.api import Candidate, Device, DeviceText, Schedule
from fettle.backends.cpu import CpuBackend
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.dense8 import Dense8
from fettle.backends.spaces import enumerate_space, is_valid
from fettle.graph import data
from fettle.graph.workload import Workload

DENSE = Dense8()
Error = Callable[[str, Device, Schedule], float]
FEW = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
ENDS = ("", " epilogue=y*b0+b1 out=u8", " epilogue=round(y*b0+b1)+b2 out=i8", " epilogue=tanh(y*b0) out=f32")


@st.composite
def workloads(draw: st.DrawFn, largest: int) -> Workload:
    m, n, k = (draw(st.integers(1, largest)) for _ in range(3))
    act, zero = draw(st.sampled_from(("u8", "i8"))), draw(st.sampled_from(("true", "false")))
    return Workload.parse(f"matmul m={m} n={n} k={k} act={act} weight=i8 zero={zero}{draw(st.sampled_from(ENDS))}")


@FEW
@given(workload=workloads(70), drawn=st.data())
def test_every_schedule_is_right_for_every_shape(
    workload: Workload, drawn: st.DataObject, device: Device, error_of: Error
) -> None:
    points = enumerate_space(DENSE.space(workload, device))
    schedule = points[drawn.draw(st.integers(0, len(points) - 1))]
    assert error_of(str(workload), device, schedule) <= 1


def test_defaults_are_right_at_every_isa_level(any_isa: Device, error_of: Error) -> None:
    workload = Workload.parse("matmul m=5 n=37 k=30 act=u8 weight=i8 zero=true epilogue=round(y*b0+b1)+b2 out=u8")
    assert error_of(str(workload), any_isa, DENSE.default(workload, any_isa)) <= 1


@pytest.mark.skipif(len(cpu.usable_cores()) < 2, reason="needs two cores")
def test_two_threads_compute_what_one_computes(backend: CpuBackend, error_of: Error) -> None:
    device = backend.device(DeviceText.parse("cpu,threads=2"))
    workload = Workload.parse("matmul m=3 n=300 k=64 act=i8 weight=i8")
    schedule = DENSE.default(workload, device)
    assert schedule["threads"] == 2
    assert error_of(str(workload), device, schedule) <= 1


def test_any_schedule_of_any_m_gives_a_row_the_same_bits(backend: CpuBackend, device: Device) -> None:
    text = "matmul m={} n=45 k=70 act=u8 weight=i8 zero=true epilogue=tanh(y*b0)+b1 out=f32 invariant=true"
    x, weight, zero, *rows = data.operands(Workload.parse(text.format(19)), 0)
    rng = np.random.default_rng(0)
    bits = set()
    for m in (1, 19):
        workload = Workload.parse(text.format(m))
        points = enumerate_space(DENSE.space(workload, device))
        for schedule in (DENSE.default(workload, device), points[int(rng.integers(len(points)))]):
            kernel = backend.load(backend.build(Candidate(workload, device, schedule)))
            out = np.empty((m, 45), np.float32)
            kernel.run([np.ascontiguousarray(np.asarray(x)[:m]), np.asarray(zero)], kernel.pack([weight, *rows]), out)
            bits.add(out[0].tobytes())
    assert len(bits) == 1


@settings(max_examples=40, deadline=None, derandomize=True)
@given(workload=workloads(2000), level=st.sampled_from(["portable", "avx2", "amx"]), threads=st.integers(1, 9))
def test_default_is_a_point_of_the_space(workload: Workload, level: str, threads: int) -> None:
    import attrs

    machine = attrs.evolve(cpu.Machine.detect(), features=cpu.LEVELS["amx"], cores=9)
    device = cpu.parse_device(DeviceText.parse(f"cpu,isa={level},threads={threads}"), machine)
    assert is_valid(DENSE.space(workload, device), DENSE.default(workload, device))


def test_packed_words_hold_four_rows_of_the_weight() -> None:
    workload = Workload.parse("matmul m=1 n=5 k=6 act=u8 weight=i8 epilogue=y*b0 out=f32")
    weight, row = np.random.default_rng(0).integers(-128, 128, (6, 5), np.int8), np.arange(5, dtype=np.float32)
    packed, sums, padded = DENSE.pack(workload, Schedule.of(columns=4), [weight, row])
    assert packed.shape == (2, 2, 16)
    for n, k in np.ndindex(8, 8):
        expected = weight[k, n] if n < 5 and k < 6 else 0
        assert packed[n // 4, k // 4, n % 4 * 4 + k % 4] == expected
    assert sums.tolist() == [*weight.sum(axis=0, dtype=np.int32), 0, 0, 0]
    assert padded.tolist() == [0, 1, 2, 3, 4, 0, 0, 0]


@pytest.mark.parametrize("text", ["matmul m=2 n=4 k=4 act=i8 rhs=i8", "matmul batch=2 m=2 n=4 k=4 act=i8 weight=i8"])
def test_other_products_of_codes_are_declined_with_a_reason(device: Device, text: str) -> None:
    support = DENSE.supports(Workload.parse(text), device)
    assert not support
    assert "constant weight" in support.reason


def test_features_are_finite_numbers(device: Device) -> None:
    workload = Workload.parse("matmul m=8 n=100 k=70 act=u8 weight=i8")
    features = DENSE.features(Candidate(workload, device, DENSE.default(workload, device)))
    assert all(np.isfinite(value) for value in features.values())
