"""Packed weights are layouts over bits: bijections, and what the packer writes is what they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fettle.backends.triton.lowbit.layouts import CONTAINERS, PlaneLayout, WeightLayout, container_of, values_in


@st.composite
def planes(draw: st.DrawFn) -> PlaneLayout:
    bits, container = draw(st.integers(1, 8)), draw(st.sampled_from(CONTAINERS))
    values = values_in(bits, container)
    step, blocks = draw(st.sampled_from([1, 2, 4])), draw(st.integers(1, 3))
    n = draw(st.integers(1, 5))
    order = draw(st.sampled_from("nk"))
    return PlaneLayout(n, values * step * blocks, bits, container, values, values * step, order, draw(st.booleans()))


def place(plane: PlaneLayout, j: int, bit: int) -> int:
    """The bit of a run that a bit of its code j is."""
    fits = plane.container // plane.bits
    if not plane.whole:
        return j * plane.bits + bit
    if j < fits * plane.words:
        return j // fits * plane.container + j % fits * plane.bits + bit
    left = plane.container % plane.bits
    word, rest = divmod((j - fits * plane.words) * plane.bits + bit, left)
    return (word + 1) * plane.container - left + rest


def unpacked(plane: PlaneLayout, words: np.ndarray) -> np.ndarray:
    """Codes by the formula of the module's page, one at a time, in Python's integers."""
    codes = np.zeros((plane.n, plane.k), np.uint8)
    per_block = plane.words * plane.step * plane.n
    for n in range(plane.n):
        for k in range(plane.k):
            block, inside = divmod(k, plane.block_k)
            j, r = divmod(inside, plane.step)
            run = 0
            for w in range(plane.words):
                if plane.contiguous == "n":
                    at = block * per_block + (w * plane.step + r) * plane.n + n
                else:
                    at = block * per_block + n * plane.words * plane.step + w * plane.step + r
                run |= int(words[at]) << (w * plane.container)
            codes[n, k] = sum((run >> place(plane, j, bit) & 1) << bit for bit in range(plane.bits))
    return codes


@given(planes())
def test_every_layout_is_a_bijection_of_bits(plane: PlaneLayout) -> None:
    assert plane.layout.is_bijection()
    assert plane.layout.size == plane.n * plane.k * plane.bits


@given(planes(), st.integers(0, 2**32 - 1))
def test_codes_are_found_where_the_page_says(plane: PlaneLayout, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 1 << plane.bits, (plane.n, plane.k), np.uint8)
    words = plane.pack(codes)
    assert words.nbytes * 8 == codes.size * plane.bits, "not a bit is wasted"
    np.testing.assert_array_equal(unpacked(plane, words), codes)


@given(planes(), st.integers(0, 2**32 - 1))
def test_packing_is_what_the_layout_says_of_bits(plane: PlaneLayout, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 1 << plane.bits, (plane.n, plane.k), np.uint8)
    runs = codes.reshape(plane.n, -1, plane.values, plane.step).transpose(0, 1, 3, 2)
    bits = np.unpackbits(np.ascontiguousarray(runs)[..., None], axis=-1, count=plane.bits, bitorder="little")
    assert sorted(plane.places.reshape(-1)) == list(range(plane.values * plane.bits))
    flat = bits.reshape(*bits.shape[:3], -1)
    bits = np.empty_like(flat)
    bits[..., plane.places.reshape(-1)] = flat
    packed = np.packbits(plane.layout.scatter(bits).view(np.uint8), bitorder="little")
    np.testing.assert_array_equal(plane.pack(codes).view(np.uint8), packed)


@pytest.mark.parametrize(("bits", "low"), [(3, 2), (5, 4), (6, 4)])
def test_two_planes_are_the_low_and_the_high_bits(bits: int, low: int) -> None:
    codes = np.random.default_rng(0).integers(0, 1 << bits, (4, 64), np.uint8)
    layout = WeightLayout.of(4, 64, bits, 8, 32, "k", low)
    below, above = (unpacked(p, w) for p, w in zip(layout.planes, layout.pack(codes), strict=True))
    np.testing.assert_array_equal(below | above << low, codes)


@pytest.mark.parametrize("bits", range(1, 9))
def test_a_number_of_values_names_its_container(bits: int) -> None:
    for container in CONTAINERS:
        assert container_of(bits, values_in(bits, container)) == container
