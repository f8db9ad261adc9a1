"""exp for vectors, as a polynomial with a bound that tests check.

    e^x = 2^n · 2^f,   n = round(x·log2 e),   f = x·log2 e - n in [-1/2, 1/2],   2^f ≈ P(f)

P is minimax in relative error with P(0) = 1, so that e^0 is exactly 1. LLVM turns its own exp of a vector
into one library call per lane, which is ten times slower.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fettle.backends.cpu.rows.vectors import Vectors

COEFFICIENTS: dict[int, tuple[float, ...]] = {
    4: (1.0, 0.6931242, 0.24024099, 0.055906426, 0.00958285),
    5: (1.0, 0.693147, 0.24022242, 0.055507336, 0.009671513, 0.0013264725),
    6: (1.0, 0.6931472, 0.24022645, 0.055503327, 0.009618437, 0.0013398875, 0.00015353362),
}
"""Degree -> coefficients of P, constant first, rounded to float32."""

BOUND: dict[int, float] = {4: 50.0, 5: 3.5, 6: 2.0}
"""Degree -> largest relative error of P evaluated in float32, in units of 2^-24, fused or not."""

_LN2 = 0.6931471805599453

SLOPE_ERROR: dict[int, float] = {degree: abs(c[1] / _LN2 - 1.0) * 2.0**24 for degree, c in COEFFICIENTS.items()}
"""Degree -> relative error of P's slope at 0, in units of 2^-24."""

LOG2_E = 1.44269502162933349609375
"""float32 nearest to log2 e."""
LOG2_E_REST = 1.925963033500e-08
LN_2 = 0.693359375
"""ln 2 in so few bits that n·LN_2 is exact."""
LN_2_REST = -2.12194440e-4
_ROUND = 12582912.0
"""1.5·2^23: adding it to |t| < 2^22 rounds t to a whole number and leaves that in the low bits."""


def exp(v: Vectors, x: Any, degree: int, *, shift: int = 0, non_positive: bool = False, precise: bool = True) -> Any:
    """e^x · 2^shift of a vector. NaN stays NaN, e^-∞ = 0, e^∞ = ∞; may flush results below 2^-126 to zero.

    Args:
        v: emits into the current function.
        x: vector of float32.
        degree: of the polynomial.
        shift: a power of two applied before rounding to float32, to keep quotients in range.
        non_positive: the caller knows that no x is above 0.
        precise: relative error independent of x; otherwise log2 e rounded to float32 adds 0.22·|x|·2^-24.
    """
    if v.scales:
        return _exp_scaled(v, x, degree, shift, non_positive, precise)
    rounded, f = _reduce_by_bits(v, x, precise, shift)
    value = v.let(v.from_bits(v.bits(_polynomial(v, f, degree)) + v.shift_left(rounded, 23)))
    value = v.where(x < v.constant((-126 - shift) * _LN2), v.constant(0.0), value)
    if not non_positive:
        value = v.where(x > v.constant((128 - shift) * _LN2 - 1e-5), v.constant(float("inf")), value)
    return v.let(value)


def expm1_negative(v: Vectors, x: Any, degree: int) -> Any:
    """e^x - 1 for -30 ≤ x ≤ 0, with a small *relative* error also near 0."""
    if v.scales:
        n = v.let(v.round(x * v.constant(LOG2_E)))
        f = _fraction(v, x, n, precise=True)
        power = v.let(v.scale(v.constant(1.0), n))
    else:
        rounded, f = _reduce_by_bits(v, x, precise=True)
        power = v.let(v.from_bits(v.integer(127 << 23) + v.shift_left(rounded, 23)))
    beyond_one = v.let(f * horner(v, f, COEFFICIENTS[degree][1:]))
    return v.let(v.multiply_add(power, beyond_one, power - v.constant(1.0)))


def _exp_scaled(v: Vectors, x: Any, degree: int, shift: int, non_positive: bool, precise: bool) -> Any:
    """With an instruction that multiplies by 2^n and rounds once: gradual underflow and overflow come free."""
    lowest = v.constant((-152 - shift) * _LN2)
    x = v.where(lowest > x, lowest, x)
    if not non_positive:
        highest = v.constant((130 - shift) * _LN2)
        x = v.where(highest < x, highest, x)
    x = v.let(x)
    n = v.let(v.round(x * v.constant(LOG2_E)))
    power = n + v.constant(float(shift)) if shift else n
    return v.let(v.scale(_polynomial(v, _fraction(v, x, n, precise), degree), power))


def _reduce_by_bits(v: Vectors, x: Any, precise: bool, shift: int = 0) -> tuple[Any, Any]:
    """(integer whose low bits are n + shift, f). A NaN's low bits are zero, so that it survives adding them."""
    rounder = v.constant(_ROUND + shift)
    shifted = v.let(v.multiply_add(x, v.constant(LOG2_E), rounder))
    n = v.let(shifted - rounder)
    return v.let(v.bits(shifted)), _fraction(v, x, n, precise)


def _fraction(v: Vectors, x: Any, n: Any, precise: bool) -> Any:
    if not v.fuses:  # Cody and Waite: both products are subtracted before anything is rounded away
        return v.let(((x - n * v.constant(LN_2)) - n * v.constant(LN_2_REST)) * v.constant(LOG2_E))
    f = v.let(v.multiply_add(x, v.constant(LOG2_E), v.constant(-0.0) - n))
    return v.let(v.multiply_add(x, v.constant(LOG2_E_REST), f)) if precise else f


def _polynomial(v: Vectors, f: Any, degree: int) -> Any:
    return horner(v, f, COEFFICIENTS[degree])


def horner(v: Vectors, f: Any, coefficients: tuple[float, ...]) -> Any:
    """The polynomial in f with these coefficients, the constant one first."""
    value = v.constant(coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = v.let(v.multiply_add(value, f, v.constant(coefficient)))
    return value
