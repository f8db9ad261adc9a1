"""ggml as a peer: the very same weights in its blocks, and what is said where it cannot compute them."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fettle.bench.metrics import normalised_error
from fettle.bench.peers import PEERS, ggml
from fettle.graph import data
from fettle.graph.errors import Unsupported
from fettle.graph.quantized import QuantizedWeight
from fettle.graph.workload import Workload


def weight_of(text: str) -> QuantizedWeight:
    weight = data.operands(Workload.parse(text), 3)[1]
    assert isinstance(weight, QuantizedWeight)
    return weight


def dequantised(blocks: np.ndarray, kind: str) -> np.ndarray:
    """As ggml's ``dequantize_row_q4_0`` and ``dequantize_row_q8_0`` have it, element by element."""
    rows = []
    for row in blocks:
        values: list[np.float64] = []
        for block in row:
            scale = np.float64(block[:2].view(np.float16)[0])
            if kind == "u8":
                values += [scale * np.float64(q) for q in block[2:].view(np.int8)]
            else:
                values += [scale * (int(q & 15) - 8) for q in block[2:]]
                values += [scale * (int(q >> 4) - 8) for q in block[2:]]
        rows.append(values)
    return np.array(rows)


@given(st.sampled_from(["u4", "u8"]), st.integers(1, 3), st.integers(1, 2), st.integers(1, 4))
def test_blocks_hold_the_same_values(kind: str, groups: int, blocks: int, n: int) -> None:
    group = 32 * blocks
    weight = weight_of(f"matmul m=1 n={n} k={groups * group} act=f32 weight={kind}:{group}")
    np.testing.assert_array_equal(dequantised(ggml.blocks(weight), kind), weight.dequantise())


@pytest.mark.parametrize(
    ("weight", "k"), [("u3:32", 64), ("u4:32:zp", 64), ("u4:32/f32", 64), ("u4:16", 64), ("u4:row", 48), ("u4:64", 96)]
)
def test_values_that_blocks_cannot_hold_are_refused(weight: str, k: int) -> None:
    with pytest.raises(Unsupported, match="block"):
        ggml.blocks(weight_of(f"matmul m=1 n=2 k={k} act=f32 weight={weight}"))


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ggml.importlib.util, "find_spec", lambda name: None)
    ggml._library.cache_clear()
    workload = Workload.parse("matmul m=1 n=8 k=64 act=f32 weight=u4:32")
    with pytest.raises(Unsupported) as caught:
        PEERS["ggml"](workload, data.operands(workload, 0), 1)
    assert caught.value.hint == "pip install llama-cpp-python==0.3.36"


def test_other_work_is_not_its_own() -> None:
    for text in ("softmax rows=4 cols=4 act=f32", "matmul m=4 n=4 k=4 act=f32 rhs=f32"):
        workload = Workload.parse(text)
        assert PEERS["ggml"](workload, data.operands(workload, 0), 1) == []


@pytest.mark.skipif(importlib.util.find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed")
@pytest.mark.parametrize("text", ["m=1 n=8 k=64 act=f32 weight=u4:32", "m=3 n=7 k=128 act=bf16 weight=u8:64"])
def test_products_are_right(text: str) -> None:
    workload = Workload.parse(f"matmul {text}")
    operands = data.operands(workload, 0)
    expected = data.reference(workload, operands).expected
    rivals = PEERS["ggml"](workload, operands, 2)
    assert [normalised_error(rival.result(), expected) < 1e-3 for rival in rivals] == [True] * len(rivals)
    assert rivals[0].bits_per_weight == (8.5 if "u8" in text else 4.5)
