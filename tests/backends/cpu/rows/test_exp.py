"""The exponential's declared error bounds hold, with and without fused multiply-add, and in emitted kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fettle.backends.api import Device, DeviceText
from fettle.backends.cpu import codegen, loader
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.family import Lowered
from fettle.backends.cpu.rows.exp import BOUND, COEFFICIENTS, LN_2, LN_2_REST, LOG2_E, LOG2_E_REST, SLOPE_ERROR

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


# Exponentials as kernels compute them: fused in one instruction (avx512), fused, and not fused.
LEVELS = [level for level in ("avx512", "avx2", "portable") if cpu.LEVELS[level] <= cpu.Machine.detect().features]
REDUCTION = 0.25
"""Of 2^-24: what rounding the fraction of x·log2 e adds to the polynomial's error."""


def emitted(level: str, degree: int, x: np.ndarray, *, precise: bool) -> np.ndarray:
    """e^x by a compiled kernel."""
    from tvm.tirx.script.builder import ir as T

    from fettle.backends.cpu.rows.arrays import function
    from fettle.backends.cpu.rows.exp import exp
    from fettle.backends.cpu.rows.vectors import Vectors

    device: Device = cpu.parse_device(DeviceText("cpu", "", (("isa", level), ("threads", "1"))))
    v = Vectors(device)

    def body(source: Any, result: Any) -> None:
        with T.serial(T.int64(0), T.int64(x.size // v.lanes)) as i:
            value = v.load(source, [i * v.lanes])
            v.store(result, [i * v.lanes], exp(v, value, degree, non_positive=True, precise=precise))

    kernel = function([("x", (x.size,)), ("y", (x.size,))], body)
    payload, _ = codegen.compile(Lowered(kernel), device, loader.ENTRY)
    out = np.empty_like(x)
    loader.link(payload)[loader.ENTRY](x, out)
    return out


def units(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Relative error of y as e^x in units of 2^-24."""
    exact = np.exp(x.astype(np.float64))
    return np.asarray(np.abs(y - exact) / exact * 2.0**24)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("degree", COEFFICIENTS)
def test_every_float_of_a_binade_is_within_the_bound(level: str, degree: int) -> None:
    # x·log2 e covers more than one whole number, so all fractions occur
    x = (np.arange(2**23, dtype=np.uint32) + np.uint32(0xBF800000)).view(np.float32)
    assert x[0] == -1
    assert x[-1] > -2
    assert units(emitted(level, degree, x, precise=True), x).max() <= BOUND[degree] + REDUCTION


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("precise", [True, False])
def test_large_arguments_are_within_the_bound(level: str, precise: bool) -> None:
    x = np.linspace(-87, 0, 1 << 20, dtype=np.float32)
    bound = BOUND[5] + REDUCTION + (0.0 if precise else 0.22 * np.abs(x))
    assert (units(emitted(level, 5, x, precise=precise), x) <= bound).all()


@pytest.mark.parametrize("degree", COEFFICIENTS)
def test_slope_at_zero_is_as_wrong_as_declared(degree: int) -> None:
    tiny = 2.0**-40
    slope = np.polynomial.polynomial.polyval(tiny, COEFFICIENTS[degree][1:])
    assert abs(slope / np.log(2) - 1) * 2**24 == pytest.approx(SLOPE_ERROR[degree], rel=1e-3)
