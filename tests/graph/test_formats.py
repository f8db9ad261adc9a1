"""Number formats: text and value are inverse, and stored sizes are what one counts by hand."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fettle.graph.codevalues import code_values, minifloat_values
from fettle.graph.errors import InvalidWorkload
from fettle.graph.formats import (
    FIXED_POINT,
    FLOATS,
    INTEGERS,
    MINIFLOATS,
    PER_ROW,
    QUANTISED,
    UNSIGNED,
    Format,
)

PLAIN = st.sampled_from(sorted({*FLOATS, *INTEGERS, *UNSIGNED})).map(Format)


@st.composite
def grouped(draw: st.DrawFn) -> Format:
    kind = draw(st.sampled_from(sorted(QUANTISED)))
    group = draw(st.just(PER_ROW) | st.integers(8, 65536))
    if kind in FIXED_POINT:
        return Format(kind, group, scale="e8m0")
    zero_points = kind in UNSIGNED and draw(st.booleans())
    scales = ("f16", "f32", "e8m0", "e4m3") if kind in MINIFLOATS else ("f16", "f32")
    return Format(kind, group, zero_points, draw(st.sampled_from(scales)))


@given(PLAIN | grouped())
def test_text_is_parsed_back(value: Format) -> None:
    assert Format.parse(str(value)) == value


@given(st.text(alphabet="uif0123456789:/zprow tenbx", max_size=16))
def test_any_text_is_a_format_or_refused(text: str) -> None:
    try:
        value = Format.parse(text)
    except InvalidWorkload:
        return
    assert Format.parse(str(value)) == value


@pytest.mark.parametrize(
    ("text", "bits", "levels", "zero_point", "step"),
    [
        ("u4:128", 4, 16, 8.0, 1.0),
        ("u1:64", 1, 2, 1.0, 1.0),
        ("tern:row", 2, 3, 1.0, 1.0),
        ("bip1:64", 1, 2, 0.5, 2.0),
        ("bcq3:64", 3, 8, 0.5, 2.0),
    ],
)
def test_codes_mean_what_the_page_says(text: str, bits: int, levels: int, zero_point: float, step: float) -> None:
    value = Format.parse(text)
    assert (value.bits, value.levels, value.zero_point, value.step) == (bits, levels, zero_point, step)


def test_bipolar_codes_are_minus_one_and_one() -> None:
    value = Format.parse("bip1:64")
    assert [value.step * (code - value.zero_point) for code in (0, 1)] == [-1.0, 1.0]


@pytest.mark.parametrize(
    ("text", "k", "expected"),
    [
        ("u4:128", 4096, 4 + 16 / 128),
        ("u4:128:zp/f32", 4096, 4 + (32 + 4) / 128),
        ("u2:row", 1000, 2 + 16 / 1000),
        ("u3:64", 100, 3 + 2 * 16 / 100),
        ("f32", 10, 32),
    ],
)
def test_bits_per_weight_count_scales_and_zero_points(text: str, k: int, expected: float) -> None:
    assert Format.parse(text).bits_per_weight(k) == pytest.approx(expected)


@pytest.mark.parametrize(
    "text",
    [
        "u9:128",
        "f32:128",
        "u4:0",
        "u4:00",
        "u4:7",
        "u4:65537",
        "u4:" + "9" * 5000,
        "u4/f32",
        "u4:128/f64",
        "tern:128:zp",
        "bcq3:128:zp",
        "bcq5:128",
        "u4:128:zp:zp",
        "U4:128",
        "u4:１２８",
        " u4:128",
        "",
        "u4:32/e8m0",
        "f9e4m4:32",
        "f4e2m2:32",
        "f4e2m1:32/f64",
        "f4e2m1:32:zp",
        "i8q6:32",
        "i8q5:32/e8m0",
    ],
)
def test_texts_that_name_no_format_are_refused(text: str) -> None:
    with pytest.raises(InvalidWorkload):
        Format.parse(text)


def test_signed_integers_are_named_as_what_they_are() -> None:
    for text in ("i4:128", "int4:128"):
        with pytest.raises(InvalidWorkload, match="u4 without :zp"):
            Format.parse(text)


@pytest.mark.parametrize(
    ("kind", "itemsize"), [("f32", 4), ("bf16", 2), ("f16", 2), ("i8", 1), ("i64", 8), ("u3", 1), ("f8e5m2", 1)]
)
def test_elements_in_memory_have_the_formats_width(kind: str, itemsize: int) -> None:
    assert Format(kind).dtype.itemsize == itemsize


def test_plain_fp8_are_numbers_and_codes_are_bytes() -> None:
    assert Format.parse("f8e4m3").dtype.name == "float8_e4m3fn"
    assert Format.parse("f8e4m3:32").dtype == np.uint8


def test_scales_are_half_precision_unless_said() -> None:
    assert Format.parse("u4:128").scale_dtype == np.float16
    assert Format.parse("u4:128/f32").scale_dtype == np.float32


@pytest.mark.parametrize(
    ("kind", "peer"),
    [
        ("f8e4m3", ml_dtypes.float8_e4m3fn),
        ("f8e5m2", ml_dtypes.float8_e5m2),
        ("f6e3m2", ml_dtypes.float6_e3m2fn),
        ("f6e2m3", ml_dtypes.float6_e2m3fn),
        ("f4e2m1", ml_dtypes.float4_e2m1fn),
    ],
)
def test_minifloats_are_those_of_an_independent_library(kind: str, peer: type) -> None:
    values = minifloat_values(kind)
    expected = np.arange(len(values), dtype=np.uint8).view(peer).astype(np.float64)
    np.testing.assert_array_equal(values, expected)
    numbers = ~np.isnan(values)
    np.testing.assert_array_equal(np.signbit(values[numbers]), np.signbit(expected[numbers]))


@pytest.mark.parametrize("kind", sorted(MINIFLOATS))
def test_minifloats_ascend_and_mirror(kind: str) -> None:
    values = minifloat_values(kind)
    positive = values[: len(values) // 2]
    finite = positive[np.isfinite(positive)]
    assert (np.diff(finite) > 0).all()
    np.testing.assert_array_equal(values[len(values) // 2 :], -positive)


def test_elements_of_mxint8_are_twos_complement_of_64ths() -> None:
    """OCP MX 1.0: 0x01 is 1/64, 0x7F is 1 63/64, 0xFF is -1/64, 0x80 is -2."""
    fmt = Format.parse("mxint8")
    assert (fmt.kind, fmt.group, fmt.scale, fmt.bits_per_weight(4096)) == ("i8q6", 32, "e8m0", 8.25)
    expected = np.arange(256, dtype=np.uint8).view(np.int8) / 64.0
    np.testing.assert_array_equal(code_values("i8q6"), expected)


def test_the_names_of_block_formats_are_short_for_what_they_mean() -> None:
    assert Format.parse("mxfp4") == Format("f4e2m1", 32, scale="e8m0")
    assert Format.parse("nvfp4") == Format("f4e2m1", 16, scale="e4m3")
    assert str(Format("f6e3m2", 32, scale="e8m0")) == "mxfp6"
    assert Format.parse("mxfp4").bits_per_weight(4096) == 4 + 8 / 32
