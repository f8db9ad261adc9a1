"""The exponential's declared error bounds hold, with and without fused multiply-add."""

from __future__ import annotations

import numpy as np
import pytest

from fettle.backends.cpu.rows.exp import BOUND, COEFFICIENTS, LN_2, LN_2_REST, LOG2_E, LOG2_E_REST

FRACTIONS = np.linspace(-0.5, 0.5, 400_001).astype(np.float32)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("degree", COEFFICIENTS)
def test_polynomial_is_within_its_bound(degree: int, fused: bool) -> None:
    value = np.full_like(FRACTIONS, COEFFICIENTS[degree][-1])
    for coefficient in reversed(COEFFICIENTS[degree][:-1]):
        if fused:  # the product of two float32 is exact in float64
            value = (value.astype(np.float64) * FRACTIONS + np.float64(np.float32(coefficient))).astype(np.float32)
        else:
            value = value * FRACTIONS + np.float32(coefficient)
    error = np.abs(value / np.exp2(FRACTIONS.astype(np.float64)) - 1.0).max() / 2.0**-24
    assert error <= BOUND[degree]


@pytest.mark.parametrize("degree", COEFFICIENTS)
def test_exponential_of_zero_is_exactly_one(degree: int) -> None:
    assert COEFFICIENTS[degree][0] == 1.0
    assert len(COEFFICIENTS[degree]) == degree + 1


def test_split_constants_add_up_to_what_they_split() -> None:
    assert np.float64(np.float32(LOG2_E)) == LOG2_E
    np.testing.assert_allclose(LOG2_E + LOG2_E_REST, np.log2(np.e), rtol=1e-14)
    np.testing.assert_allclose(LN_2 + LN_2_REST, np.log(2), rtol=1e-11)
    for n in range(-160, 160):  # the product with a whole exponent is exact
        assert np.float32(n) * np.float32(LN_2) == n * LN_2
