"""Every order of codes on every format, any schedule of any shape, against the reference and its tolerance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fettle.backends.api import DeviceText
from fettle.backends.cpu import CpuBackend
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.gemm import spaces
from fettle.backends.spaces import enumerate_space
from fettle.graph import data
from fettle.graph.quantized import QuantizedWeight
from fettle.graph.workload import Workload

FORMATS = ("u1", "u2", "u3", "u4", "u5", "u6", "u7", "u8", "tern", "bip1")
ORDERS = [order for order, needed in spaces.REQUIRED.items() if needed <= cpu.features(cpu.default_device())]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", ["u1", "u2", "u3", "u4", "u8", "tern", "bip1"])
def test_every_format_is_within_tolerance(build: Any, order: str, kind: str) -> None:
    text = f"matmul m=19 n=50 k=150 act=f32 weight={kind}:64"
    built = build(text, order=order, tile=32, interleave=1, panel=16, rows=7, vectors=1, threads=1)
    assert built.error() <= 1.0


@given(choose=st.data())
@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
def test_any_schedule_of_any_shape_is_right(backend: CpuBackend, build: Any, choose: st.DataObject) -> None:
    kind = choose.draw(st.sampled_from(FORMATS))
    group = choose.draw(st.sampled_from(["8", "12", "32", "64", "128", "row"]))
    suffix = choose.draw(st.sampled_from(["", "/f32"] if kind in ("tern", "bip1") else ["", ":zp", ":zp/f32"]))
    act, out = (choose.draw(st.sampled_from(["f32", "f16", "bf16"])) for _ in range(2))
    m, n, k = choose.draw(st.integers(8, 40)), choose.draw(st.integers(1, 150)), choose.draw(st.integers(1, 700))
    text = f"matmul m={m} n={n} k={k} act={act} weight={kind}:{group}{suffix} out={out}"
    points = enumerate_space(backend.space(Workload.parse(text), backend.device(DeviceText.parse("cpu"))))
    schedule = points[choose.draw(st.integers(0, len(points) - 1))]
    assert build(text, schedule=schedule).error() <= 1.0


@pytest.mark.parametrize("kind", ["u8:row", "u4:row:zp", "u8:600"])
def test_groups_longer_than_a_slab_keep_exact_sums(build: Any, kind: str) -> None:
    assert build(f"matmul m=9 n=40 k=1300 act=f32 weight={kind}").error() <= 1.0


def test_more_rows_than_a_band_are_all_written(build: Any) -> None:
    assert build("matmul m=259 n=33 k=64 act=bf16 weight=u4:32").error() <= 1.0


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", ["u4", "u8"])
def test_sums_of_the_largest_codes_and_activations_do_not_saturate(build: Any, order: str, kind: str) -> None:
    built = build(f"matmul m=8 n=32 k=1024 act=f32 weight={kind}:row/f32", order=order, unroll=1)
    fmt = built.workload["weight"]
    top = fmt.levels - 1
    weight = QuantizedWeight(fmt, np.full((32, 1024), top, np.uint8), np.ones((32, 1), np.float32))
    for sign in (1, -1):
        result = built([np.full((8, 1024), sign, np.float32), weight])
        np.testing.assert_allclose(result, sign * 1024 * (top - fmt.zero_point), rtol=1e-5)


def test_zero_activations_give_zero(build: Any) -> None:
    built = build("matmul m=8 n=32 k=64 act=f32 weight=u4:32:zp")
    _, weight = data.operands(built.workload, 0)
    assert (built([np.zeros((8, 64), np.float32), weight]) == 0).all()


def test_threads_that_share_columns_or_rows_agree_with_one_thread(build: Any) -> None:
    text = "matmul m=20 n=200 k=128 act=f32 weight=u3:32"
    if cpu.threads(cpu.default_device()) < 2:
        pytest.skip("one core")
    operands = data.operands(Workload.parse(text), 0)
    alone = build(text, threads=1)(operands)
    for row_threads in (1, 2):
        together = build(text, threads=2, rows=7, row_threads=row_threads)(operands)
        np.testing.assert_array_equal(alone, together)


@pytest.mark.parametrize("isa", ["portable", "avx2", "avx512"])
@pytest.mark.parametrize("compute", ["i8", "f32"])
def test_many_rows_are_right_on_every_instruction_set(build: Any, isa: str, compute: str) -> None:
    text = f"matmul m=17 n=50 k=96 act=bf16 weight=u8:32 compute={compute}"
    assert build(text, f"cpu,isa={isa}").error() <= 1.0
