"""Quantised weights: packing is lossless, and their value is scale · step · (code - zero point)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fettle.graph.errors import InvalidArgument
from fettle.graph.formats import Format
from fettle.graph.quantized import QuantizedWeight, pack_bits, unpack_bits


def weight(text: str, n: int, k: int, seed: int = 0) -> QuantizedWeight:
    fmt, rng = Format.parse(text), np.random.default_rng(seed)
    scales = (0.5 + rng.random((n, fmt.groups(k)))).astype(fmt.scale_dtype)
    zero_points = rng.integers(0, fmt.levels, scales.shape, np.uint8) if fmt.zero_points else None
    return QuantizedWeight(fmt, rng.integers(0, fmt.levels, (n, k), np.uint8), scales, zero_points)


@given(st.integers(1, 8), st.integers(1, 3), st.integers(1, 40), st.integers(0, 2**32))
def test_unpacking_inverts_packing(bits: int, rows: int, columns: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 1 << bits, (rows, columns), np.uint8)
    packed = pack_bits(codes, bits)
    assert packed.shape == (rows, -(-columns * bits // 8))
    assert (unpack_bits(packed, bits)[:, :columns] == codes).all()


@pytest.mark.parametrize(
    ("codes", "bits", "packed"),
    [([1, 2], 4, [0x21]), ([3, 0, 1, 2], 2, [0b10_01_00_11]), ([5, 3, 7], 3, [0b11_011_101, 0b1]), ([200], 8, [200])],
)
def test_low_bits_come_first(codes: list[int], bits: int, packed: list[int]) -> None:
    assert pack_bits(np.array([codes], np.uint8), bits).tolist() == [packed]


@pytest.mark.parametrize("text", ["u4:8", "u8:8:zp/f32", "u1:row", "tern:8", "bip1:8"])
def test_what_may_cancel_bounds_the_parts_of_a_weight(text: str) -> None:
    w = weight(text, 3, 20)
    w = QuantizedWeight(w.format, w.codes, -w.scales, w.zero_points)
    scales = np.abs(w.expand(w.scales).astype(np.float64)) * w.format.step
    zeros = w.format.zero_point if w.zero_points is None else w.expand(w.zero_points)
    parts = scales * w.codes + scales * zeros
    bound = np.abs(w.dequantise()) + w.expand(w.cancelling())
    assert (parts <= bound + 1e-9).all()
    assert (w.cancelling() <= 2.0 * (scales * zeros).max()).all()


@pytest.mark.parametrize(("text", "most"), [("u4:32", 15), ("u8:32", 255), ("tern:32", 2), ("u3:32", 7)])
def test_a_code_that_the_format_lacks_is_refused(text: str, most: int) -> None:
    w = weight(text, 2, 32)
    codes = w.codes.copy()
    codes[1, 5] = most
    QuantizedWeight(w.format, codes, w.scales)
    if most < 255:
        codes[1, 5] = most + 1
        with pytest.raises(InvalidArgument, match=rf"0 … {most}, but there is a {most + 1}"):
            QuantizedWeight(w.format, codes, w.scales)


def test_a_text_is_no_format_and_the_error_says_where_to_get_one() -> None:
    w = weight("u4:32", 2, 32)
    with pytest.raises(InvalidArgument) as refused:
        QuantizedWeight("u4:32", w.codes, w.scales)  # type: ignore[arg-type]
    assert "workload['weight']" in refused.value.hint


def test_a_binary_coded_weight_is_a_sum_of_scaled_signs() -> None:
    scales = np.array([[[4.0, 2.0, 1.0], [8.0, 0.5, 0.25]]], np.float16)
    weight = QuantizedWeight(Format.parse("bcq3:8"), np.array([[0, 1, 2, 3, 4, 5, 6, 7, 0, 7, 5, 2]], np.uint8), scales)
    expected = [-7, 1, -3, 5, -5, 3, -1, 7, -8.75, 8.75, 7.75, -7.75]
    np.testing.assert_array_equal(weight.dequantise()[0], expected)


@pytest.mark.parametrize("text", ["u4:32", "u4:32:zp/f32", "u2:row", "tern:16", "bip1:16", "u8:16:zp"])
def test_value_is_scale_times_step_times_distance_from_zero(text: str) -> None:
    w = weight(text, 3, 48)
    fmt, group = w.format, {"u4:32": 32, "u4:32:zp/f32": 32, "u2:row": 48}.get(text, 16)
    dense = w.dequantise()
    for n in range(3):
        for k in range(48):
            zero = fmt.zero_point if w.zero_points is None else float(w.zero_points[n, k // group])
            expected = float(w.scales[n, k // group]) * fmt.step * (float(w.codes[n, k]) - zero)
            assert dense[n, k] == expected
    assert (w.dequantise(slice(1, 3)) == dense[1:3]).all()


@given(
    st.integers(2, 8), st.sampled_from([16, 32]), st.integers(1, 70), st.booleans(), st.sampled_from(["", "/f32"]),
)  # fmt: skip
def test_matmul_nbits_operands_come_back(bits: int, block: int, k: int, zero_points: bool, scale: str) -> None:
    w = weight(f"u{bits}:{block}{':zp' if zero_points else ''}{scale}", 3, k)
    packed, scales, stored = w.to_matmul_nbits()
    back = QuantizedWeight.from_matmul_nbits(packed, scales.reshape(-1), stored, bits=bits, block=block, k=k)
    assert back.format == w.format
    assert (back.codes == w.codes).all()
    assert (back.scales == w.scales).all()
    assert zero_points == (back.zero_points is not None)
    if back.zero_points is not None:
        assert (back.zero_points == w.zero_points).all()


def test_matmul_nbits_of_the_wrong_shape_is_refused() -> None:
    packed, scales, _ = weight("u4:32", 3, 64).to_matmul_nbits()
    with pytest.raises(InvalidArgument, match="B has shape"):
        QuantizedWeight.from_matmul_nbits(packed, scales, None, bits=4, block=32, k=65)
    with pytest.raises(InvalidArgument):
        QuantizedWeight.from_matmul_nbits(packed, scales[:2], None, bits=4, block=32, k=64)


def test_parts_that_disagree_are_refused() -> None:
    w = weight("u4:32", 2, 64)
    assert (w.shape, w.group) == ((2, 64), 32)
    with pytest.raises(InvalidArgument, match="codes must be"):
        QuantizedWeight(w.format, w.codes.astype(np.int32), w.scales)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="scales must be"):
        QuantizedWeight(w.format, w.codes, w.scales.astype(np.float32))
    with pytest.raises(InvalidArgument, match="zero points"):
        QuantizedWeight(w.format, w.codes, w.scales, np.zeros((2, 2), np.uint8))
    with pytest.raises(InvalidArgument, match="not a quantised"):
        QuantizedWeight(Format("f32"), w.codes, w.scales)
