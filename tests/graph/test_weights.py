"""Random weights for verification: none vanishes, whatever the format, so that a gate proves something."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from fettle.graph.codevalues import code_values
from fettle.graph.formats import MINIFLOATS, SCALES, Format
from fettle.graph.microscaling import quantise
from fettle.graph.operators.weights import random_weight

ALL = [f"{kind}:32/{scale}" for kind, scale in itertools.product(MINIFLOATS, SCALES)]
WIDE = ("f7e6m0", "f8e6m1", "f8e7m0")
"""Whose largest numbers no f16 scale brings down to weights of a usual size."""


def random_numbers(text: str, k: int) -> tuple[Format, np.ndarray, np.ndarray]:
    """(format, codes, weights), enough of them for statistics."""
    fmt = Format.parse(text)
    weight = random_weight(fmt, max(2, 16384 // k), k, np.random.default_rng(3))
    return fmt, weight.codes, weight.dequantise()


@pytest.mark.parametrize("k", [64, 4096, 65536])
def test_weights_of_every_minifloat_have_the_size_that_keeps_results_near_one(k: int) -> None:
    for text in ALL:
        _, _, weights = random_numbers(text, k)
        assert np.isfinite(weights).all(), text
        assert 0.5 < weights.std() * np.sqrt(k) < 2.0, text


@pytest.mark.parametrize("k", [64, 4096, 65536])
def test_scales_are_no_coarser_than_codes(k: int) -> None:
    """Scales of f32 with the same draws tell what those of f16 should be, where all codes are drawn with both."""
    for kind, (exponent, mantissa) in MINIFLOATS.items():
        _, codes, weights = random_numbers(f"{kind}:32", k)
        _, exact_codes, exact = random_numbers(f"{kind}:32/f32", k)
        if (codes != exact_codes).any():
            assert kind in WIDE or (exponent == 5 and k == 65536)
            continue
        coarsest = 2.0 ** -(mantissa + 1)
        assert (np.abs(weights - exact) <= coarsest * np.abs(exact)).all(), kind


@pytest.mark.parametrize("text", ALL)
def test_all_numbers_are_drawn_unless_their_scales_would_vanish(text: str) -> None:
    fmt, codes, _ = random_numbers(text, 4096)
    finite = np.flatnonzero(np.isfinite(code_values(fmt.kind)))
    drawn = np.unique(codes)
    if fmt.kind in WIDE and fmt.scale == "f16":
        left_out = np.setdiff1d(finite, drawn)
        assert np.abs(code_values(fmt.kind)[left_out]).min() > np.abs(code_values(fmt.kind)[drawn]).max()
        assert len(drawn) > len(finite) / 2
    else:
        np.testing.assert_array_equal(drawn, finite)


@pytest.mark.parametrize("kind", MINIFLOATS)
def test_floats_become_the_block_format_with_the_error_that_its_mantissa_promises(kind: str) -> None:
    """Where the exponents suffice: normal numbers of the format, and below those that saturate."""
    exponent, mantissa = MINIFLOATS[kind]
    matrix = np.random.default_rng(4).standard_normal((16, 128)) * 0.02
    weight = quantise(matrix, Format.parse(f"{kind}:32/e8m0"))
    found, scales = weight.dequantise(), weight.expand(weight.scales).astype(np.float64)
    assert np.count_nonzero(found.any(axis=1)) == 16
    values = code_values(kind)
    smallest = 2.0 ** (2 - 2 ** (exponent - 1))
    fits = (np.abs(matrix) >= smallest * scales) & (np.abs(matrix) <= values[np.isfinite(values)].max() * scales)
    assert fits.sum() > 100
    assert (np.abs(found - matrix)[fits] <= 2.0 ** -(mantissa + 1) * np.abs(matrix)[fits]).all()
