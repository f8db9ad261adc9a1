from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fettle.backends.cpu.attention.orders import alternating, every_other, repeated

LENGTHS = st.sampled_from([4, 8, 16, 32])


@given(LENGTHS)
def test_even_and_odd_elements_of_alternating_ones_are_the_operands(n: int) -> None:
    operands = np.arange(2 * n)
    mixed = operands[alternating(0, n, n)]
    np.testing.assert_array_equal(mixed[every_other(0, n)], operands[:n])
    np.testing.assert_array_equal(mixed[every_other(1, n)], operands[n:])


@given(LENGTHS, st.permutations(range(4)))
def test_a_repeated_pattern_shuffles_every_four_elements_alike(n: int, pattern: list[int]) -> None:
    values = np.arange(n)
    np.testing.assert_array_equal(values[repeated(pattern, 4, n)], values.reshape(-1, 4)[:, pattern].reshape(-1))


def test_lower_and_upper_halves_of_every_four_elements_alternate() -> None:
    assert repeated(alternating(0, 2, 8), 4, 8) == [0, 8, 1, 9, 4, 12, 5, 13]
    assert repeated(alternating(2, 2, 8), 4, 8) == [2, 10, 3, 11, 6, 14, 7, 15]
