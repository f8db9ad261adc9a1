"""Number formats: text and value are inverse, and stored sizes are what one counts by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fettle.graph.errors import InvalidWorkload
from fettle.graph.formats import FLOATS, INTEGERS, PER_ROW, QUANTISED, UNSIGNED, Format

PLAIN = st.sampled_from(sorted({*FLOATS, *INTEGERS, *UNSIGNED})).map(Format)


@st.composite
def grouped(draw: st.DrawFn) -> Format:
    kind = draw(st.sampled_from(sorted(QUANTISED)))
    group = draw(st.just(PER_ROW) | st.integers(8, 65536))
    zero_points = kind in UNSIGNED and draw(st.booleans())
    return Format(kind, group, zero_points, draw(st.sampled_from(("f16", "f32"))))


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
    ],
)
def test_texts_that_name_no_format_are_refused(text: str) -> None:
    with pytest.raises(InvalidWorkload):
        Format.parse(text)


@pytest.mark.parametrize(("kind", "itemsize"), [("f32", 4), ("bf16", 2), ("f16", 2), ("i8", 1), ("i64", 8), ("u3", 1)])
def test_elements_in_memory_have_the_formats_width(kind: str, itemsize: int) -> None:
    assert Format(kind).dtype.itemsize == itemsize


def test_scales_are_half_precision_unless_said() -> None:
    assert Format.parse("u4:128").scale_dtype == np.float16
    assert Format.parse("u4:128/f32").scale_dtype == np.float32
