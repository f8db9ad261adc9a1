from __future__ import annotations

from collections.abc import Callable

import pytest

from fettle.backends.host.executor import TrialResult

Prove = Callable[..., TrialResult]

OPERATORS = ["softmax", "rmsnorm", "layernorm"]


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("act", ["f16", "bf16", "f32"])
def test_rows_in_one_block_are_right(prove: Prove, operator: str, act: str) -> None:
    assert prove(f"{operator} rows=5 cols=300 act={act}", rows=2).verified


@pytest.mark.parametrize("operator", OPERATORS)
def test_rows_longer_than_a_block_are_right(prove: Prove, operator: str) -> None:
    assert prove(f"{operator} rows=3 cols=700 act=f16", block=256).verified


@pytest.mark.parametrize(
    "expression",
    [
        "silu(x0)*x1",
        "relu(x0-x1)+abs(x2)/2",
        "tanh(x0)",
        "erf(x0)",
        "-sigmoid(x0)*exp(x1)",
        "max(min(round(3*x0),2),-1)",
    ],
)
@pytest.mark.parametrize("act", ["f16", "bf16", "f32"])
def test_elementwise_chains_are_right(prove: Prove, expression: str, act: str) -> None:
    assert prove(f"elementwise shape=3x300 act={act} expr={expression}").verified
