"""Normalisations of rows, groups and channels, written as the kernels know them: the results stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.face.test_transformers import build, workloads_of

RNG = np.random.default_rng(0)


def found(operator: str, shape: tuple[int, ...], after: str = "y = Identity (n)", **arrays: Any) -> list[str]:
    kind = f"float[{','.join(map(str, shape))}]"
    body = f"g ({kind} x) => ({kind} y) {{ n = {operator} (x, {', '.join(arrays)}) {after} }}"
    model = build(body, arrays, 23)
    return workloads_of(model, {"x": RNG.standard_normal(shape, np.float32) + 1})


def row(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, np.float32)


def test_layer_norm_without_a_bias_is_a_workload() -> None:
    assert found("LayerNormalization", (3, 5, 8), w=row(8)) == ["layernorm rows=15 cols=8 act=f32"]


@pytest.mark.parametrize("axis", [1, -2])
def test_normalisations_over_several_axes_are_rows_of_them_together(axis: int) -> None:
    of = f"<axis = {axis}>"
    assert found(f"LayerNormalization {of}", (3, 5, 8), w=row(5, 8)) == ["layernorm rows=3 cols=40 act=f32"]
    both = {"w": row(5, 8), "b": row(5, 8)}
    assert found(f"LayerNormalization {of}", (3, 5, 8), **both) == ["layernorm rows=3 cols=40 act=f32"]
    assert found(f"RMSNormalization {of}", (3, 5, 8), w=row(5, 8)) == ["rmsnorm rows=3 cols=40 act=f32"]
    assert found(f"RMSNormalization {of}", (3, 5, 8), w=row(8)) == []  # broadcast


@pytest.mark.parametrize(("shape", "image"), [((2, 6, 5, 7), "h=5 w=7"), ((2, 6, 5), "h=1 w=5")])
def test_groups_are_rows_and_their_factors_a_convolution_that_goes_on(shape: tuple[int, ...], image: str) -> None:
    columns = np.prod(shape[2:])
    both = {"w": row(6), "b": row(6)}
    filters = f"conv2d n=2 c=6 {image} oc=6 kh=1 kw=1 group=6 act=f32 weight=f32 epilogue="
    norm = "GroupNormalization <num_groups = 3, epsilon = 0.001>"
    rows = f"layernorm rows=6 cols={2 * columns} act=f32 eps=0.001"
    assert found(norm, shape, **both) == [rows, f"{filters}y+b0"]
    assert found(norm, shape, "s = Sigmoid (n) y = Mul (n, s)", **both) == [rows, f"{filters}silu(y+b0)"]
    each = f"layernorm rows=12 cols={columns} act=f32"
    assert found("InstanceNormalization", shape, **both) == [each, f"{filters}y+b0"]
    plain = {"w": np.ones(6, np.float32), "b": np.zeros(6, np.float32)}
    assert found("InstanceNormalization", shape, **plain) == [each]


def test_batch_norm_that_no_convolution_takes_in_is_one_of_its_own() -> None:
    statistics = {"s": row(6), "o": row(6), "m": row(6), "v": abs(row(6)) + 0.5}
    filters = "conv2d n=2 c=6 h=5 w=7 oc=6 kh=1 kw=1 group=6 act=f32 weight=f32 epilogue=relu(y+b0)"
    assert found("BatchNormalization", (2, 6, 5, 7), "y = Relu (n)", **statistics) == [filters]
    assert found("BatchNormalization", (2, 6, 2, 3, 4), **statistics) == []  # factors broadcast over three axes


def test_batch_norm_after_a_product_is_its_epilogue() -> None:
    arrays = {"k": row(8, 6), "s": row(6), "o": row(6), "m": row(6), "v": abs(row(6)) + 0.5}
    body = "g (float[4,8] x) => (float[4,6] y) { p = MatMul (x, k) y = BatchNormalization (p, s, o, m, v) }"
    texts = workloads_of(build(body, arrays, 23), {"x": row(4, 8)})
    assert texts == ["matmul m=4 n=6 k=8 act=f32 weight=f32 epilogue=y*b0+b1"]
