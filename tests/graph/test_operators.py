"""Reference semantics and declared error bounds: honest kernels stay inside, wrong ones do not."""

from __future__ import annotations

import numpy as np
import pytest

from fettle.graph.data import operands, reference
from fettle.graph.errors import InvalidWorkload
from fettle.graph.operators import Reference
from fettle.graph.quantized import QuantizedWeight
from fettle.graph.workload import Workload


def worst(kernel: np.ndarray, right: Reference) -> float:
    """Largest |error| / tolerance."""
    return float((np.abs(kernel.astype(np.float64) - right.expected) / right.tolerance).max())


def sequential_float32(x: np.ndarray, dense: np.ndarray) -> np.ndarray:
    """x @ dense with one float32 accumulator per output, in order of k."""
    total = np.zeros((x.shape[0], dense.shape[1]), np.float32)
    for k in range(x.shape[1]):
        total += x[:, k : k + 1] * dense[k]
    return total


def int8_blocks(x: np.ndarray, weight: QuantizedWeight) -> np.ndarray:
    """The product with x rounded to 8 bits per group, as accuracy level 4 allows."""
    padded = np.zeros((x.shape[0], weight.scales.shape[1] * weight.group), np.float32)
    padded[:, : x.shape[1]] = x
    groups = padded.reshape(x.shape[0], -1, weight.group)
    scale = np.maximum(np.abs(groups).max(axis=2, keepdims=True), np.float32(1e-30)) / np.float32(127)
    rounded = (np.rint(groups / scale) * scale).reshape(x.shape[0], -1)[:, : x.shape[1]]
    result: np.ndarray = rounded @ weight.dequantise(dtype=np.float32).T
    return result


@pytest.mark.parametrize("k", [64, 1000, 4096])
@pytest.mark.parametrize("seed", [0, 1])
def test_float32_products_stay_inside_the_bound_but_a_lost_element_does_not(k: int, seed: int) -> None:
    workload = Workload.of("matmul", m=2, n=48, k=k, act="f32", weight="f32")
    x, dense = (np.asarray(o) for o in operands(workload, seed))
    right = reference(workload, (x, dense))
    assert right.expected == pytest.approx(x.astype(np.float64) @ dense.astype(np.float64))
    assert worst(sequential_float32(x, dense), right) <= 1.0
    lost = x.copy()
    lost[:, k // 2] = 0.0
    assert worst(sequential_float32(lost, dense), right) > 1.0


@pytest.mark.parametrize(
    "weight", ["u4:32", "u4:128:zp/f32", "u2:64", "u8:32", "tern:row", "bip1:64", "u3:48", "bcq3:64"]
)
@pytest.mark.parametrize("compute", ["i8", "f32"])
def test_quantised_products_stay_inside_the_bound_but_a_lost_group_does_not(weight: str, compute: str) -> None:
    workload = Workload.of("matmul", m=2, n=64, k=256, act="f32", weight=weight, compute=compute)
    x, w = operands(workload, 0)
    assert isinstance(x, np.ndarray)
    assert isinstance(w, QuantizedWeight)
    right = reference(workload, (x, w))
    product = int8_blocks if compute == "i8" else lambda a, b: sequential_float32(a, b.dequantise(dtype=np.float32).T)
    assert worst(product(x, w), right) <= 1.0
    lost = x.copy()
    lost[:, 64:96] = 0.0
    assert worst(product(lost, w), right) > 1.0


def test_a_lost_element_of_k_is_noticed_even_at_8_bit_activations() -> None:
    workload = Workload.of("matmul", m=4, n=256, k=64, act="f32", weight="u4:32")
    x, w = operands(workload, 0)
    assert isinstance(x, np.ndarray)
    assert isinstance(w, QuantizedWeight)
    lost = x.copy()
    lost[:, 17] = 0.0
    right = reference(workload, (x, w))
    assert worst(int8_blocks(x, w), right) <= 1.0 < worst(int8_blocks(lost, w), right)


def test_rounding_to_8_bits_is_not_float32_accuracy() -> None:
    workload = Workload.of("matmul", m=2, n=64, k=256, act="f32", weight="u4:32", compute="f32")
    x, w = operands(workload, 0)
    assert isinstance(w, QuantizedWeight)
    assert worst(int8_blocks(np.asarray(x), w), reference(workload, (x, w))) > 1.0


def test_short_last_groups_are_references_too() -> None:
    workload = Workload.of("matmul", m=1, n=8, k=100, act="f32", weight="u4:32")
    x, w = operands(workload, 0)
    assert isinstance(w, QuantizedWeight)
    assert w.scales.shape == (8, 4)
    right = reference(workload, (x, w))
    assert right.expected == pytest.approx(np.asarray(x, np.float64) @ w.dequantise().T)
    assert worst(int8_blocks(np.asarray(x), w), right) <= 1.0


def test_batched_products_are_one_product_per_batch() -> None:
    workload = Workload.of("matmul", batch=3, m=4, n=5, k=6, act="f32", rhs="f32")
    x, rhs = (np.asarray(o) for o in operands(workload, 0))
    right = reference(workload, (x, rhs))
    for b in range(3):
        assert right.expected[b] == pytest.approx(x[b].astype(np.float64) @ rhs[b])


def test_softmax_in_float32_stays_inside_the_bound() -> None:
    workload = Workload.of("softmax", rows=16, cols=3000, act="f32")
    (x,) = (np.asarray(o) for o in operands(workload, 0))
    right = reference(workload, (x,))
    e = np.exp(x - x.max(axis=1, keepdims=True))
    assert right.expected.sum(axis=1) == pytest.approx(np.ones(16))
    assert worst(e / e.sum(axis=1, keepdims=True), right) <= 1.0
    without_one = e / (e.sum(axis=1, keepdims=True) - e[:, :1])
    assert worst(without_one, right) > 1.0


def test_masked_logits_have_probability_zero_and_a_finite_bound() -> None:
    workload = Workload.of("softmax", rows=1, cols=4, act="f32")
    right = reference(workload, (np.array([[0.0, -np.inf, 0.0, -np.inf]], np.float32),))
    assert right.expected.tolist() == [[0.5, 0.0, 0.5, 0.0]]
    assert np.isfinite(right.tolerance).all()


def test_rmsnorm_in_float32_stays_inside_the_bound_and_epsilon_matters() -> None:
    workload = Workload.of("rmsnorm", rows=4, cols=2048, act="f32", eps=1e-3)
    x, scale = (np.asarray(o) for o in operands(workload, 0))
    right = reference(workload, (x, scale))

    def kernel(eps: float) -> np.ndarray:
        return x / np.sqrt((x * x).mean(axis=1, keepdims=True) + np.float32(eps)) * scale

    assert worst(kernel(1e-3), right) <= 1.0
    assert worst(kernel(1e-5), right) > 1.0


def test_layernorm_in_float32_stays_inside_the_bound_and_mean_and_epsilon_matter() -> None:
    workload = Workload.of("layernorm", rows=4, cols=2048, act="f32", eps=1e-3)
    x, scale, bias = (np.asarray(o) for o in operands(workload, 0))
    right = reference(workload, (x, scale, bias))

    def kernel(eps: float, shift: float = 0.0) -> np.ndarray:
        centred = x - x.mean(axis=1, keepdims=True) + np.float32(shift)
        return centred / np.sqrt((centred * centred).mean(axis=1, keepdims=True) + np.float32(eps)) * scale + bias

    assert worst(kernel(1e-3), right) <= 1.0
    assert worst(kernel(1e-5), right) > 1.0
    assert worst(kernel(1e-3, 1e-3), right) > 1.0


def test_elementwise_is_the_expression() -> None:
    workload = Workload.of("elementwise", shape="8x96", act="f32", expr="silu(x0)*x1")
    x, y = (np.asarray(o) for o in operands(workload, 0))
    right = reference(workload, (x, y))
    assert worst(x / (1 + np.exp(-x)) * y, right) <= 1.0
    assert worst(x / (1 + np.exp(-x)) + y, right) > 1.0


@pytest.mark.parametrize(
    "text", ["softmax rows=4 cols=64 act=bf16", "rmsnorm rows=4 cols=64 act=f16", "layernorm rows=4 cols=64 act=bf16"]
)
def test_rounding_the_result_to_its_format_stays_inside_the_bound(text: str) -> None:
    workload = Workload.parse(text)
    data = operands(workload, 0)
    right = reference(workload, data)
    assert worst(right.expected.astype(workload.result.format.dtype), right) <= 1.0


def test_operands_follow_from_seed_and_workload_alone() -> None:
    first, other = (Workload.of("softmax", rows=2, cols=cols, act="f32") for cols in (8, 16))
    once, again = (np.asarray(operands(first, 3)[0]) for _ in range(2))
    assert (once == again).all()
    assert (once != np.asarray(operands(first, 4)[0])).any()
    assert (once != np.asarray(operands(other, 3)[0])[:, :8]).any()


@pytest.mark.parametrize("weight", ["f32", "u4:128", "u2:128:zp", "bip1:128"])
def test_random_data_keep_results_of_order_one(weight: str) -> None:
    workload = Workload.of("matmul", m=4, n=64, k=2048, act="f32", weight=weight, compute="f32")
    expected = reference(workload, operands(workload, 0)).expected
    assert 0.3 < expected.std() < 3.0


def test_an_integer_product_is_exact() -> None:
    workload = Workload.parse("matmul m=3 n=4 k=5 act=i8 weight=i8")
    assert str(workload["out"]) == "i32"
    x, weight = operands(workload, 0)
    assert x.dtype == np.int8
    right = reference(workload, (x, weight))
    assert np.array_equal(right.expected, np.asarray(x, np.int64) @ np.asarray(weight, np.int64))
    assert (right.tolerance < 1.0).all()


def cut_sums(x: np.ndarray, weight: np.ndarray, step: int = 32, bits: int = 13) -> np.ndarray:
    """``x · W`` as tensor units add fp8: 32 addends and the sum lose what is below 2^-13 of the largest's exponent."""
    total = np.zeros((x.shape[0], weight.shape[1]))
    for start in range(0, x.shape[1], step):
        addends = x[:, start : start + step, None] * weight[None, start : start + step]
        addends = np.concatenate([addends, total[:, None]], axis=1)
        unit = np.ldexp(1.0, np.frexp(np.abs(addends).max(axis=1, keepdims=True))[1] - 1 - bits)
        total = (np.trunc(addends / unit) * unit).sum(axis=1)
    return total


@pytest.mark.parametrize("k", [32, 4096])
@pytest.mark.parametrize("weight_format", ["f8e4m3", "f8e5m2"])
def test_sums_of_fp8_may_lose_what_tensor_units_cut(k: int, weight_format: str) -> None:
    workload = Workload.parse(f"matmul m=4 n=32 k={k} act=f8e4m3 weight={weight_format} out=f32")
    x, weight = (np.asarray(operand).astype(np.float64) for operand in operands(workload, 0))
    right = reference(workload, operands(workload, 0))
    assert np.allclose(right.expected, x @ weight)
    assert (np.abs(cut_sums(x, weight) - right.expected) <= right.tolerance).all()
    assert (right.tolerance < 0.15 * right.expected.std()).all(), "a block of K left out is found"


@pytest.mark.parametrize(
    "text",
    [
        "act=f8e4m3 weight=bf16",
        "act=bf16 weight=f8e4m3",
        "act=f8e4m3 rhs=bf16",
        "act=f8e4m3 weight=f8e4m3:128",
        "act=f8e4m3 weight=f8e4m3 compute=f32",
        "act=f8e4m3 weight=f6e3m2",
    ],
)
def test_half_fp8_products_are_refused(text: str) -> None:
    with pytest.raises(InvalidWorkload, match=r"plain fp8|needs a group"):
        Workload.parse(f"matmul m=1 n=1 k=128 {text}")


@pytest.mark.parametrize(
    "text",
    [
        "matmul m=1 n=1 k=1 act=i8 weight=f32",
        "matmul m=1 n=1 k=1 act=f32 weight=i8",
        "matmul m=1 n=1 k=1 act=i8 weight=i8 out=f32",
        "matmul m=1 n=1 k=1 act=f32 weight=f32 out=i32",
        "matmul m=1 n=1 k=200000 act=i8 rhs=i8",
    ],
)
def test_half_integer_products_are_refused(text: str) -> None:
    with pytest.raises(InvalidWorkload):
        Workload.parse(text)
