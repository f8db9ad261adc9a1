"""Inline PTX takes every code out of words of 16 bits: by the emulator, against the packer and the formats' values."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from fettle.backends.triton.interpreter.ptx import execute
from fettle.backends.triton.lowbit import spread
from fettle.backends.triton.lowbit.layouts import PlaneLayout, values_in
from fettle.backends.triton.lowbit.spread import Assembly
from fettle.graph.codevalues import minifloat_values
from fettle.graph.formats import MINIFLOATS

ACTS = {"f16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}


def spread_all(bits: int, act: str, assembly: Assembly) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Random codes ``[N, values]``, each code at each place, and the numbers that assembly makes of them."""
    values = values_in(bits, 16)
    codes = np.random.default_rng(bits).permuted(np.tile(np.arange(512) % (1 << bits), (values, 1)), axis=1).T
    codes = np.ascontiguousarray(codes.astype(np.uint8))
    plane = PlaneLayout(len(codes), values, bits, 16, values, values, "n", whole=True)
    words = plane.pack(codes).reshape(plane.words, -1)
    pairs = [np.ascontiguousarray(row).view(np.uint32) for row in words]
    outputs = execute(assembly.text, values, pairs)
    return codes, np.stack([register.view(ACTS[act]).astype(np.float64) for register in outputs], axis=1)


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("bits", range(1, 9))
def test_integers_are_exact(bits: int, act: str) -> None:
    for step, offset in ((1, 0), (1, 1 << (bits - 1)), *(((2, 1),) if bits == 1 else ())):
        codes, numbers = spread_all(bits, act, spread.integers(bits, act, step, offset))
        np.testing.assert_array_equal(numbers, step * codes.astype(int) - offset)


@pytest.mark.parametrize(("bits", "act"), [(b, a) for b in range(1, 9) for a in ACTS if (b, a) != (8, "bf16")])
def test_raw_codes_are_numbers_of_their_place(bits: int, act: str) -> None:
    codes, numbers = spread_all(bits, act, spread.raw(bits, act))
    fits = 16 // bits
    period = spread.period(bits, act)
    whole = codes.shape[1] * bits // 16 * fits
    places = np.array([j % fits * bits % period if j < whole else 0 for j in range(codes.shape[1])])
    expected = codes * 2.0**places
    np.testing.assert_array_equal(numbers, expected * 2.0**-24 if act == "f16" else 128.0 + expected)


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize(
    "kind", ["f4e2m1", "f6e3m2", "f6e2m3", "f8e4m3", "f8e5m2", "f3e1m1", "f4e3m0", "f7e3m3", "f5e2m2"]
)
def test_minifloats_are_exact(kind: str, act: str) -> None:
    exponent, mantissa = MINIFLOATS[kind]
    values = minifloat_values(kind)
    for scaled in (True, False):
        codes, numbers = spread_all(len(values).bit_length() - 1, act, spread.floats(exponent, mantissa, act, scaled))
        factor = 1.0 if scaled else spread.bias_factor(exponent, act)
        finite = np.isfinite(values[codes])
        np.testing.assert_array_equal(numbers[finite] * factor, values[codes][finite])


def test_no_width_takes_many_instructions() -> None:
    """Of a run: logic, shifts and products, for two weights each; the constants are set once a program."""

    def a_weight(assembly: Assembly, bits: int) -> float:
        lines = [line for line in assembly.text.splitlines() if line[0] not in "{}." and not line.startswith("mov")]
        return len(lines) / (2 * values_in(bits, 16))

    assert max(a_weight(spread.raw(bits, "f16"), bits) for bits in range(1, 9)) <= 1.25
    assert a_weight(spread.raw(3, "f16"), 3) <= 0.75
    assert max(a_weight(spread.integers(bits, "f16", 1, 4), bits) for bits in range(1, 9)) <= 1.75
