"""Coded weights come back bit by bit, from the kernel and from a decoder that reads one bit at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fettle.backends.host.executor import TrialResult
from fettle.backends.triton.lossless.coding import LENGTH, Coded, canonical, code_lengths, encode

Prove = Callable[..., TrialResult]


def decoded(coded: Coded, counts: np.ndarray, lanes: int, chunk: int) -> np.ndarray:
    """Raw bits, by walking codes bit by bit without the table."""
    lengths = code_lengths(counts)
    symbols = {(int(n), int(c)): s for s, (n, c) in enumerate(zip(lengths, canonical(lengths), strict=True)) if n}
    stream = "".join(f"{word:032b}" for word in coded.stream.tolist())
    exponents = np.zeros(len(coded.starts) * chunk, np.uint16)
    for number, first in enumerate(coded.starts.tolist()):
        group, lane = divmod(number, lanes)
        start = first
        for step in range(chunk):
            length = 1
            while (length, int(stream[start : start + length], 2)) not in symbols:
                length += 1
            exponents[(group * chunk + step) * lanes + lane] = symbols[length, int(stream[start : start + length], 2)]
            start += length
    rest = coded.rest.astype(np.uint16)
    return (rest & 0x80) << 8 | exponents[: len(rest)] << 7 | rest & 0x7F


@given(st.integers(0, 2**32 - 1), st.integers(1, 200), st.booleans())
def test_any_bits_come_back(seed: int, count: int, few: bool) -> None:
    bits = np.random.default_rng(seed).integers(0, 1 << 16, count, np.uint16)
    if few:
        bits &= 0x80FF  # two exponents, NaN and infinity not among them
    counts = np.bincount((bits >> 7) & 0xFF, minlength=256)
    np.testing.assert_array_equal(decoded(encode(bits, 4, 8), counts, 4, 8), bits)


def test_no_code_is_too_long_for_the_table() -> None:
    counts = np.zeros(256, np.int64)
    counts[:30] = [int(1.6**i) for i in range(30)]  # as Fibonacci's, the worst there is
    lengths = code_lengths(counts)
    used = lengths[counts > 0]
    assert used.min() >= 1
    assert used.max() <= LENGTH
    assert (0.5**used).sum() <= 1.0, "Kraft's inequality: the codes are free of prefixes"


@pytest.mark.parametrize("changes", [{}, {"lanes": 64, "chunk": 16, "warps": 1}])
def test_the_kernel_loses_nothing(prove: Prove, changes: dict[str, int]) -> None:
    result = prove("lossless n=33 k=130 act=bf16", **changes)
    assert result.verified
    assert result.max_error == 0.0


def test_weights_take_less_than_three_quarters() -> None:
    weights = np.random.default_rng(0).standard_normal(1 << 18, np.float32)
    bits = (weights.view(np.uint32) >> 16).astype(np.uint16)
    coded = encode(bits, 128, 64)
    size = sum(a.nbytes for a in (coded.stream, coded.starts, coded.table, coded.rest))
    assert size < 0.75 * bits.nbytes
