"""Huffman codes for the exponents of bf16, of limited length, many of them read at once.

An element is its exponent, coded, and a byte of sign and mantissa, as it is. Elements are dealt to lanes: of each
group of ``lanes · chunk`` elements, lane i has the elements i, i + lanes, i + 2·lanes, … and a stretch of the bit
stream of its own, so that lanes which decode in step read neighbouring bytes and write neighbouring elements.
"""

from __future__ import annotations

import heapq

import attrs
import numpy as np
from numpy.typing import NDArray

LENGTH = 12
"""Bits of the longest code: a table of 4096 entries decodes any. Rare exponents cost a little more for it."""

_SYMBOLS = 256


@attrs.frozen(eq=False)
class Coded:
    """A weight in coded form.

    Attributes:
        stream: codes, first bit highest in each 32-bit word, with a word to spare at the end.
        starts: first bit of each lane's stretch, uint32 ``[groups · lanes]``.
        table: ``symbol | length << 8`` for each LENGTH bits that may come next, uint16.
        rest: sign and mantissa of each element, uint8.
    """

    stream: NDArray[np.uint32]
    starts: NDArray[np.uint32]
    table: NDArray[np.uint16]
    rest: NDArray[np.uint8]


def encode(bits: NDArray[np.uint16], lanes: int, chunk: int) -> Coded:
    """Code the raw bits of bf16 elements, flat."""
    exponents = ((bits >> 7) & 0xFF).astype(np.uint8)
    rest = ((bits >> 8) & 0x80 | bits & 0x7F).astype(np.uint8)
    counts = np.bincount(exponents, minlength=_SYMBOLS)
    lengths = code_lengths(counts)
    codes = canonical(lengths)
    group = lanes * chunk
    padded = np.full(-(-bits.size // group) * group, np.argmax(counts), np.uint8)
    padded[: bits.size] = exponents
    in_order = padded.reshape(-1, chunk, lanes).transpose(0, 2, 1).reshape(-1)
    taken = lengths[in_order].astype(np.int64)
    ends = np.cumsum(taken)
    first = ends - taken
    stream = np.zeros(-(-int(ends[-1]) // 32) * 32 + 32, np.uint8)
    for bit in range(int(lengths.max())):
        has = taken > bit
        stream[first[has] + bit] = codes[in_order[has]] >> (taken[has] - 1 - bit) & 1
    words = np.packbits(stream).view(">u4").astype(np.uint32)
    table = np.zeros(1 << LENGTH, np.uint16)
    for symbol in np.flatnonzero(lengths):
        length = int(lengths[symbol])
        start = int(codes[symbol]) << (LENGTH - length)
        table[start : start + (1 << (LENGTH - length))] = symbol | length << 8
    return Coded(words, first[::chunk].astype(np.uint32), table, rest)


def code_lengths(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bits of each symbol's code, at most LENGTH; 0 for symbols that do not occur.

    Huffman's algorithm; as long as a code is too long, counts are halved (rounded up), which evens them out.
    """
    weights = counts.copy()
    while True:
        lengths = _huffman(weights)
        if lengths.max() <= LENGTH:
            return lengths
        weights = np.where(counts > 0, (weights + 1) // 2, 0)


def _huffman(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    lengths = np.zeros(len(counts), np.int64)
    heap: list[tuple[int, int, tuple[int, ...]]] = [(int(counts[s]), int(s), (int(s),)) for s in np.flatnonzero(counts)]
    if len(heap) == 1:
        lengths[heap[0][1]] = 1
    heapq.heapify(heap)
    while len(heap) > 1:
        one, two = heapq.heappop(heap), heapq.heappop(heap)
        symbols = one[2] + two[2]
        lengths[list(symbols)] += 1
        heapq.heappush(heap, (one[0] + two[0], min(one[1], two[1]), symbols))
    return lengths


def canonical(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Codes in order of (length, symbol): the first is all zeros, each next one counts up (RFC 1951, 3.2.2)."""
    codes = np.zeros(len(lengths), np.int64)
    code, before = 0, 0
    for length, symbol in sorted((int(n), s) for s, n in enumerate(lengths) if n):
        code <<= length - before
        codes[symbol] = code
        code, before = code + 1, length
    return codes
