from __future__ import annotations

from collections.abc import Callable

import pytest

from fettle.backends.host.executor import TrialResult
from fettle.backends.registry import resolve_device
from fettle.backends.triton.backend import target_of
from fettle.graph.workload import Workload

Prove = Callable[..., TrialResult]


@pytest.mark.parametrize("act", ["f16", "bf16"])
@pytest.mark.parametrize("side", ["weight", "rhs"])
def test_products_of_any_shape_are_right(prove: Prove, act: str, side: str) -> None:
    assert prove(f"matmul m=20 n=50 k=90 act={act} {side}={act}").verified


@pytest.mark.parametrize("split", [1, 4])
def test_batches_and_parts_of_k_add_up(prove: Prove, split: int) -> None:
    text = "matmul batch=2 m=20 n=40 k=260 act=f16 rhs=f16 out=f32"
    assert prove(text, split=split, block_k=32, block_m=16, block_n=32).verified


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("m=20 n=50 k=90 act=f8e4m3 weight=f8e4m3", 1),
        ("m=20 n=50 k=90 act=f8e4m3 weight=f8e5m2 out=f16 epilogue=y*b0+b1", 1),
        ("batch=2 m=20 n=50 k=140 act=f8e4m3 weight=f8e4m3", 2),
        ("batch=2 m=20 n=50 k=140 act=i8 weight=i8", 2),
        ("batch=2 m=20 n=50 k=90 act=i8 rhs=i8", 1),
    ],
)
def test_products_of_bytes_are_right(prove: Prove, text: str, split: int) -> None:
    assert prove(f"matmul {text}", split=split, block_k=32).verified


@pytest.mark.parametrize("number", range(3))
def test_any_schedule_is_right(prove: Prove, number: int) -> None:
    assert prove("matmul m=40 n=70 k=64 act=bf16 weight=bf16", random=number).verified


@pytest.mark.parametrize(
    ("text", "act"),
    [
        ("m=20 n=50 k=90 weight=f16 epilogue=relu(y+b0)+x0", "f16"),
        ("m=20 n=50 k=90 weight=bf16 out=f32 epilogue=silu(y*b0+b1)", "bf16"),
        ("batch=2 m=20 n=50 k=90 rhs=bf16 epilogue=tanh(y)*x0-x1", "bf16"),
    ],
)
def test_an_epilogue_is_applied_before_the_one_store(prove: Prove, text: str, act: str) -> None:
    assert prove(f"matmul act={act} {text}").verified


def test_a_product_with_an_epilogue_is_one_launch() -> None:
    backend, device = resolve_device("triton:sm_90")
    workload = Workload.parse("matmul m=16 n=4096 k=4096 act=f16 weight=f16 epilogue=relu(y+b0)+x0")
    plan = backend.family(workload, device).plan(workload, backend.default(workload, device), target_of(device))
    (launch,) = plan.launches
    plain = Workload.parse("matmul m=16 n=4096 k=4096 act=f16 weight=f16")
    schedule = backend.default(workload, device)
    (bare,) = backend.family(plain, device).plan(plain, schedule, target_of(device)).launches
    assert launch.work.bytes - bare.work.bytes == 4 * 4096 + 2 * 16 * 4096
    assert [a.source for a in launch.arguments] == ["input:0", "packed:0", "packed:1", "input:1", "out", ""]
