from __future__ import annotations

from collections.abc import Callable

import pytest

from fettle.backends.host.executor import TrialResult

Prove = Callable[..., TrialResult]


@pytest.mark.parametrize("act", ["f16", "bf16"])
@pytest.mark.parametrize("side", ["weight", "rhs"])
def test_products_of_any_shape_are_right(prove: Prove, act: str, side: str) -> None:
    assert prove(f"matmul m=20 n=50 k=90 act={act} {side}={act}").verified


@pytest.mark.parametrize("split", [1, 4])
def test_batches_and_parts_of_k_add_up(prove: Prove, split: int) -> None:
    text = "matmul batch=3 m=20 n=50 k=260 act=f16 rhs=f16 out=f32"
    assert prove(text, split=split, block_k=32, block_m=16, block_n=32).verified


@pytest.mark.parametrize("number", range(3))
def test_any_schedule_is_right(prove: Prove, number: int) -> None:
    assert prove("matmul m=40 n=70 k=64 act=bf16 weight=bf16", random=number).verified
