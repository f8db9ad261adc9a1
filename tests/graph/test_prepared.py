"""Prepared activations: what their words mean, and what the gate accepts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fettle.backends.host.verify import compare
from fettle.graph.data import operands, reference
from fettle.graph.errors import InvalidWorkload
from fettle.graph.prepared import PreparedFormat
from fettle.graph.quantized import QuantizedWeight
from fettle.graph.workload import Workload


def matmul(act: str, weight: str = "u4:64", m: int = 2, **fields: object) -> Workload:
    return Workload.of("matmul", m=m, n=24, k=128, act=act, weight=weight, **fields)


@given(st.integers(1, 3), st.sampled_from([32, 64, 128]), st.sampled_from(["i8", "lut4"]), st.integers(0, 99))
def test_activations_come_back_within_half_a_unit(rows: int, group: int, element: str, seed: int) -> None:
    fmt = PreparedFormat(element, group)
    x = np.random.default_rng(seed).standard_normal((rows, 128)).astype(np.float32)
    words = fmt.prepare(x)
    assert words.shape == (fmt.words(rows, 128),)
    groups = np.abs(x).reshape(rows, -1, group // 4, 4)
    largest = groups.max(axis=(2, 3)) if element == "i8" else groups.sum(axis=3).max(axis=2)
    error = np.abs(fmt.activations(words, rows, 128) - x).reshape(rows, -1, group).max(axis=2)
    assert (error <= (0.5 + 1e-3) * largest / 127).all()


def test_words_are_codes_then_units_then_totals_little_end_first() -> None:
    x = np.zeros((1, 64), np.float32)
    x[0, :3] = 127.0, -4.0, 2.0
    x[0, 33] = -254.0
    words = PreparedFormat("i8", 32).prepare(x)
    assert words.view(np.int8)[:4].tolist() == [127, -4, 2, 0]
    assert words.view(np.int8)[33] == -127
    assert words[16:18].view(np.float32).tolist() == [1.0, 2.0]
    assert words[18:].tolist() == [125, -127]


def test_an_entry_adds_the_activations_of_its_set_bits_and_takes_off_the_others() -> None:
    x = np.zeros((1, 32), np.float32)
    x[0, :4] = 64.0, 32.0, 16.0, 15.0
    words = PreparedFormat("lut4", 32).prepare(x)
    entries = words.view(np.int8)[:16]
    assert entries[0b1111] == 127
    assert entries[0b0000] == -127
    assert entries[0b0101] == 64 - 32 + 16 - 15
    assert words[-2:].view(np.float32).tolist() == [1.0, 127.0]


@pytest.mark.parametrize("element", ["i8", "lut4"])
@pytest.mark.parametrize("act", ["f32", "bf16"])
def test_right_words_pass_the_gate_and_each_part_counts(element: str, act: str) -> None:
    workload = Workload.parse(f"quantize rows=3 cols=128 act={act} out={element}:64/f32")
    (x,) = operands(workload, 0)
    assert isinstance(x, np.ndarray)
    right = reference(workload, (x,))
    words = workload["out"].prepare(x)
    assert compare(workload.decode(words), right)[1] <= 1.0
    value, unit, total = words.copy(), words.copy(), words.copy()
    value.view(np.int8)[5] ^= 2
    unit[-2 * 6] += 1 << 17
    if element == "i8":
        total[-1] += 1
    else:
        total[-1:].view(np.float32)[...] += 1e-3
    for wrong in (value, unit, total, np.full_like(words, -1)):
        assert compare(workload.decode(wrong), right)[1] > 1.0


@pytest.mark.parametrize("weight", ["u4:64", "tern:64", "bcq2:64", "u8:64:zp", "u2:row"])
def test_products_of_codes_are_held_to_float32_and_not_to_8_bits(weight: str) -> None:
    group = 128 if weight.endswith("row") else 64
    workload = matmul(f"i8:{group}/f32", weight)
    words, w = operands(workload, 0)
    assert isinstance(words, np.ndarray)
    assert isinstance(w, QuantizedWeight)
    units = words[64 : 64 + 2 * 128 // group].view(np.float32).reshape(2, -1)
    x = words[:64].view(np.int8).reshape(2, 128) * np.repeat(units, group, axis=1).astype(np.float64)
    right = reference(workload, (words, w))
    assert right.expected == pytest.approx(x @ w.dequantise().T)
    rounded = reference(matmul("f32", weight), (x.astype(np.float32), w))
    assert (right.tolerance < 0.05 * rounded.tolerance).all()


def test_products_of_tables_have_the_bound_of_tables() -> None:
    workload = matmul("lut4:64/f32", "u2:64")
    words, w = operands(workload, 0)
    assert isinstance(words, np.ndarray)
    assert isinstance(w, QuantizedWeight)
    x = workload["act"].activations(words, 2, 128)
    right = reference(workload, (words, w))
    assert right.expected == pytest.approx(x @ w.dequantise().T)
    assert right.tolerance == pytest.approx(reference(matmul("f32", "u2:64"), (x, w)).tolerance, rel=1e-3)


def test_results_of_products_are_float32_unless_they_say_otherwise() -> None:
    assert matmul("i8:64/f32").result.format.kind == "f32"
    assert matmul("i8:64/f32", out="bf16").result.format.kind == "bf16"
    assert str(matmul("i8:64/f32", out="f32")) == "matmul m=2 n=24 k=128 act=i8:64/f32 weight=u4:64"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("quantize rows=1 cols=128 act=f32 out=i8:48/f32", "multiples of 32"),
        ("quantize rows=1 cols=100 act=f32 out=i8:32/f32", "do not divide"),
        ("quantize rows=1 cols=128 act=f32 out=i8:64", "malformed"),
        ("quantize rows=1 cols=128 act=f32 out=i4:64/f32", "i8 or lut4"),
        ("matmul m=1 n=8 k=128 act=i8:64/f32 weight=f32", "quantised weight"),
        ("matmul m=1 n=8 k=128 act=i8:64/f32 rhs=f32", "quantised weight"),
        ("matmul m=1 n=8 k=128 act=i8:32/f32 weight=mxfp4", "integers or signs"),
        ("matmul m=1 n=8 k=128 act=i8:64/f32 weight=u4:32", "grouped alike"),
        ("matmul m=1 n=8 k=128 act=i8:64/f32 weight=u4:64 compute=f32", "rounded already"),
        ("matmul m=1 n=8 k=96 act=i8:64/f32 weight=u4:64", "do not divide"),
    ],
)
def test_what_cannot_be_prepared_says_why(text: str, why: str) -> None:
    with pytest.raises(InvalidWorkload, match=why):
        Workload.parse(text)
