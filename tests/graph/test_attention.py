"""The attention operator: fields, shapes, reference semantics and the size of its tolerance."""

from __future__ import annotations

import numpy as np
import pytest

from fettle.graph import data
from fettle.graph.errors import InvalidWorkload
from fettle.graph.workload import Workload


def plain(q: np.ndarray, k: np.ndarray, v: np.ndarray, causal: bool) -> np.ndarray:
    """Attention by its definition, one query at a time, in the precision of the operands."""
    y = np.empty_like(q)
    group, shift = q.shape[1] // k.shape[1], k.shape[2] - q.shape[2]
    for b, h, i in np.ndindex(q.shape[:3]):
        keys = slice(0, shift + i + 1) if causal else slice(None)
        s = k[b, h // group, keys] @ q[b, h, i] / np.sqrt(q.dtype.type(q.shape[3]))
        p = np.exp(s - s.max())
        y[b, h, i] = p @ v[b, h // group, keys] / p.sum()
    return y


@pytest.mark.parametrize("causal", ["true", "false"])
def test_reference_is_attention_and_float32_is_well_within_its_tolerance(causal: str) -> None:
    workload = Workload.parse(f"attention batch=2 heads=6 kv_heads=2 q=5 kv=70 dim=24 act=f32 causal={causal}")
    operands = [np.asarray(o) for o in data.operands(workload, 0)]
    right = data.reference(workload, operands)
    exact = plain(*(o.astype(np.float64) for o in operands), causal == "true")  # type: ignore[misc]
    np.testing.assert_allclose(right.expected, exact, rtol=1e-12, atol=1e-14)
    single = plain(*operands, causal == "true")  # type: ignore[misc]
    assert (np.abs(single - right.expected) <= right.tolerance).all()
    assert right.tolerance.max() < 1e-3


def test_a_lost_key_and_a_shifted_mask_are_noticed() -> None:
    workload = Workload.parse("attention heads=2 q=4 kv=64 dim=32 act=bf16 causal=true")
    q, k, v = (np.asarray(o).astype(np.float64) for o in data.operands(workload, 0))
    right = data.reference(workload, [q, k, v])
    for wrong in (plain(q, k[:, :, 1:], v[:, :, 1:], True), plain(q, k, v, False)):
        assert (np.abs(wrong - right.expected) > right.tolerance).any()


def test_probabilities_in_bf16_stay_inside_the_bound_only_where_declared() -> None:
    import ml_dtypes

    text = "attention heads=2 q=4 kv=64 dim=32 act={}"
    q, k, v = (np.asarray(o).astype(np.float64) for o in data.operands(Workload.parse(text.format("bf16")), 0))
    s = q @ k.transpose(0, 1, 3, 2) / np.sqrt(32)
    p = np.exp(s - s.max(axis=-1, keepdims=True))
    y = p.astype(ml_dtypes.bfloat16).astype(np.float64) @ v / p.sum(axis=-1, keepdims=True)
    ratios = {}
    for act in ("bf16", "f32"):
        right = data.reference(Workload.parse(text.format(act)), [q, k, v])
        ratios[act] = (np.abs(y - right.expected) / right.tolerance).max()
    assert ratios["bf16"] <= 1 < ratios["f32"]


def test_fields_shapes_and_counts() -> None:
    workload = Workload.parse(
        "attention batch=1 heads=32 kv_heads=8 q=1 kv=4096 dim=128 act=bf16 kvcache=bf16 causal=true"
    )
    assert str(workload) == "attention heads=32 kv_heads=8 q=1 kv=4096 dim=128 act=bf16 causal=true"
    assert Workload.parse(str(workload)) == workload
    assert [t.shape for t in workload.operands] == [(1, 32, 1, 128), (1, 8, 4096, 128), (1, 8, 4096, 128)]
    assert workload.result.shape == (1, 32, 1, 128)
    assert workload.nbytes == 2 * 8 * 4096 * 128 * 2 + 2 * 32 * 128 * 2
    assert workload.flops == 4 * 32 * 4096 * 128
    triangle = Workload.parse("attention heads=1 q=3 kv=5 dim=1 act=f32 causal=true")
    assert triangle.flops == 4 * (3 + 4 + 5)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ("heads=3 kv_heads=2 q=1 kv=8 dim=8", "multiple"),
        ("heads=1 q=9 kv=8 dim=8 causal=true", "no key"),
        ("heads=1 q=1 kv=8 dim=8 causal=yes", "neither true nor false"),
        ("heads=1 q=1 kv=8 dim=8 kvcache=i8", "no format of a cache"),
        ("heads=1 q=1 kv=8 dim=8 kvcache=u8:32", "no format of a cache"),
        ("heads=1 q=1 kv=8 dim=9 kvcache=u4:32/f32", "no multiple"),
    ],
)
def test_meaningless_workloads_are_refused(fields: str, reason: str) -> None:
    with pytest.raises(InvalidWorkload, match=reason):
        Workload.parse(f"attention {fields} act=f32")


def test_a_quantised_cache_has_scales_per_channel_of_keys_and_per_position_of_values() -> None:
    workload = Workload.parse("attention heads=4 kv_heads=2 q=2 kv=70 dim=16 act=f32 kvcache=u4:32/f32")
    shapes = {t.name: (t.shape, str(t.format)) for t in workload.operands}
    assert shapes["k"] == shapes["v"] == ((1, 2, 70, 8), "u8")
    assert shapes["k_scale"] == shapes["k_zero"] == ((1, 2, 3, 16), "f32")
    assert shapes["v_scale"] == shapes["v_zero"] == ((1, 2, 70, 1), "f32")
    q, k, k_scale, k_zero, v, v_scale, v_zero = (np.asarray(o) for o in data.operands(workload, 0))
    keys, cached = np.empty((1, 2, 70, 16)), np.empty((1, 2, 70, 16))
    for g, j, d in np.ndindex(2, 70, 16):
        half = 4 * (d % 2)
        keys[0, g, j, d] = (k[0, g, j, d // 2] >> half & 15) * float(k_scale[0, g, j // 32, d]) + k_zero[
            0, g, j // 32, d
        ]
        cached[0, g, j, d] = (v[0, g, j, d // 2] >> half & 15) * float(v_scale[0, g, j, 0]) + v_zero[0, g, j, 0]
    right = data.reference(workload, [q, k, k_scale, k_zero, v, v_scale, v_zero])
    np.testing.assert_allclose(right.expected, plain(q.astype(np.float64), keys, cached, False), rtol=1e-9, atol=1e-12)
    assert 0.5 < cached.std() < 2.0
    assert right.tolerance.max() < 1e-3


def test_values_with_as_many_groups_as_positions_are_told_from_keys() -> None:
    workload = Workload.parse("attention heads=1 q=1 kv=1 dim=8 act=f32 kvcache=u8:8/f32")
    q, k, k_scale, k_zero, v, v_scale, v_zero = (np.asarray(o) for o in data.operands(workload, 0))
    right = data.reference(workload, [q, k, k_scale, k_zero, v, v_scale, v_zero])
    np.testing.assert_allclose(right.expected[0, 0], v[0, 0] * v_scale[0, 0].astype(np.float64) + v_zero[0, 0])
