"""Quantising to OCP MX's formats: by its rule, against ml_dtypes' rounding and plain integers."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from fettle.graph.errors import InvalidArgument
from fettle.graph.formats import Format
from fettle.graph.microscaling import quantise

PEERS = {"mxfp4": (ml_dtypes.float4_e2m1fn, 2), "mxfp6": (ml_dtypes.float6_e3m2fn, 4)}
"""The element type of a library, which saturates as OCP asks, and the exponent of its largest number."""


def random_matrix(seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((5, 96)) * 2.0 ** rng.integers(-20, 20, (5, 1))).astype(np.float32)


def scales_of(matrix: NDArray[np.float32], exponent: int) -> NDArray[np.float64]:
    largest = np.abs(matrix).reshape(5, 3, 32).max(axis=2).astype(np.float64)
    return np.exp2(np.floor(np.log2(largest)) - exponent)


@pytest.mark.parametrize("name", PEERS)
def test_elements_are_rounded_as_an_independent_library_rounds(name: str) -> None:
    peer, exponent = PEERS[name]
    matrix = random_matrix(1)
    scales = scales_of(matrix, exponent)
    weight = quantise(matrix, Format.parse(name))
    np.testing.assert_array_equal(weight.scales.astype(np.float64), scales)
    expected = (matrix.reshape(5, 3, 32) / scales[..., None]).astype(peer).astype(np.float64) * scales[..., None]
    np.testing.assert_array_equal(weight.dequantise(), expected.reshape(5, 96))


def test_mxint8_is_the_nearest_64th_and_symmetric() -> None:
    matrix = random_matrix(2)
    scales = scales_of(matrix, 0)
    weight = quantise(matrix, Format.parse("mxint8"))
    nearest = np.clip(np.rint(matrix.reshape(5, 3, 32) / scales[..., None] * 64.0), -127, 127)
    np.testing.assert_array_equal(weight.codes.view(np.int8), nearest.reshape(5, 96))
    np.testing.assert_array_equal(weight.dequantise(), (nearest / 64.0 * scales[..., None]).reshape(5, 96))


def test_what_a_format_has_is_kept() -> None:
    values = np.arange(-127, 127, dtype=np.float32).reshape(1, 254) / 64.0
    weight = quantise(np.pad(values, ((0, 0), (0, 2)), constant_values=1.0), Format.parse("mxint8"))
    np.testing.assert_array_equal(weight.dequantise()[:, :254], values)
    assert not quantise(np.zeros((2, 32), np.float32), Format.parse("mxint8")).codes.any()


@pytest.mark.parametrize("text", ["u8:32", "nvfp4", "f8e4m3:32"])
def test_other_formats_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="OCP"):
        quantise(np.zeros((1, 32), np.float32), Format.parse(text))


def test_numbers_that_are_not_finite_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="finite"):
        quantise(np.full((1, 32), np.inf, np.float32), Format.parse("mxint8"))
