"""How the codes of a weight ``[N, K]`` lie in memory, as layouts over bits.

K is cut into blocks of ``block_k = values · step``; value j of row r of a block is ``k = block·block_k + j·step + r``.
The ``values`` codes of one (n, block, r) are a run that fills ``words`` containers exactly: either their bits follow
one another, low bits first, or each container has as many ``whole`` codes side by side as it holds, low bits first, and
the bits left over at the containers' tops make up the last codes. Containers of a block are contiguous along n (``n``),
or along r (``k``)::

    (bit, word, r, block, n) : (1, c·w, c·r, c·b, c·n)          c bits of a container
    "n":  w = step·N      r = N      b = words·step·N     n = 1
    "k":  w = step        r = 1      b = words·step·N     n = words·step
"""

from __future__ import annotations

import functools
import math

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.graph.layouts import Layout

CONTAINERS = (8, 16, 32)


def values_in(bits: int, container: int) -> int:
    """How many codes it takes to fill whole containers."""
    return math.lcm(bits, container) // bits


def container_of(bits: int, values: int) -> int:
    """The container that ``values`` codes fill; the inverse of :func:`values_in`."""
    return next(c for c in CONTAINERS if values_in(bits, c) == values)


@attrs.frozen
class Piece:
    """``count`` bits of a code, from its bit ``at`` on, that lie in container ``word`` from its bit ``bit`` on."""

    word: int
    bit: int
    count: int
    at: int


@functools.cache
def pieces(bits: int, container: int, whole: bool) -> tuple[tuple[Piece, ...], ...]:
    """Where each code of a run lies, low bits first."""
    words = bits * values_in(bits, container) // container
    spots = [(word, bit) for word in range(words) for bit in range(container)]
    if whole:  # a stable sort: bits that no whole code fits in go last
        spots.sort(key=lambda spot: spot[1] >= container - container % bits)
    codes = []
    for first in range(0, len(spots), bits):
        found: list[Piece] = []
        for at, (word, bit) in enumerate(spots[first : first + bits]):
            if found and (found[-1].word, found[-1].bit + found[-1].count) == (word, bit):
                found[-1] = attrs.evolve(found[-1], count=found[-1].count + 1)
            else:
                found.append(Piece(word, bit, 1, at))
        codes.append(tuple(found))
    return tuple(codes)


@attrs.frozen
class PlaneLayout:
    """Where the codes of one plane of ``bits`` bits lie.

    Attributes:
        container: bits of one container.
        values: codes that share their containers.
        block_k: codes of one row of a block; a multiple of ``values``.
        contiguous: ``n`` or ``k``.
        whole: whether containers hold whole codes.
    """

    n: int
    k: int
    bits: int
    container: int
    values: int
    block_k: int
    contiguous: str
    whole: bool = False

    @property
    def words(self) -> int:
        """Containers that ``values`` codes fill."""
        return self.bits * self.values // self.container

    @property
    def step(self) -> int:
        """Distance along K of codes that share a container."""
        return self.block_k // self.values

    @property
    def places(self) -> NDArray[np.intp]:
        """The bit of the run that each bit of each code is, ``[values, bits]``: a permutation."""
        found = np.arange(self.values * self.bits).reshape(self.values, self.bits)
        for j, code in enumerate(self._pieces):
            for p in code:
                found[j, p.at : p.at + p.count] = p.word * self.container + p.bit + np.arange(p.count)
        return found

    @property
    def _pieces(self) -> tuple[tuple[Piece, ...], ...]:
        return pieces(self.bits, self.container, self.whole)

    @property
    def layout(self) -> Layout:
        """From the coordinates (bit of the run, r, block, n) to bits of memory."""
        c, words, step, blocks = self.container, self.words, self.step, self.k // self.block_k
        block = words * step * self.n
        if self.contiguous == "n":
            word, r, row = step * self.n, self.n, 1
        else:
            word, r, row = step, 1, words * step
        return Layout((c, words, step, blocks, self.n), (1, c * word, c * r, c * block, c * row))

    def pack(self, codes: NDArray[np.uint8]) -> NDArray[np.unsignedinteger]:
        """Codes ``[N, K]`` below 2^bits as containers, flat: as :attr:`layout` says of bits, by whole containers."""
        container = np.dtype(f"u{self.container // 8}")
        runs = codes.reshape(self.n, -1, self.values, self.step)
        packed = np.zeros((self.words, self.n, runs.shape[1], self.step), container)
        for j, code in enumerate(self._pieces):
            for p in code:
                part = (runs[:, :, j] >> np.uint8(p.at)) & np.uint8((1 << p.count) - 1)
                packed[p.word] |= part.astype(container) << container.type(p.bit)
        axes = (2, 0, 3, 1) if self.contiguous == "n" else (2, 1, 0, 3)
        return np.ascontiguousarray(packed.transpose(axes)).reshape(-1)


@attrs.frozen
class WeightLayout:
    """The planes of a weight: all bits together, or the low and the high bits apart."""

    planes: tuple[PlaneLayout, ...]

    @classmethod
    def of(
        cls, n: int, k: int, bits: int, values: int, block_k: int, contiguous: str, low: int, whole: bool = False
    ) -> WeightLayout:
        """The layout of ``bits`` bits, the lowest ``low`` of them in a plane of their own (all: one plane).

        Containers are the largest that one code run of ``values`` codes fills alone.
        """

        def plane(part: int) -> PlaneLayout:
            container = container_of(bits, values) if low == bits else values * part
            return PlaneLayout(n, k, part, container, values, block_k, contiguous, whole)

        return cls(tuple(plane(part) for part in ((bits,) if low == bits else (low, bits - low))))

    def pack(self, codes: NDArray[np.uint8]) -> tuple[NDArray[np.unsignedinteger], ...]:
        """Codes ``[N, K]`` as one array of containers a plane."""
        arrays, shift = [], 0
        for plane in self.planes:
            arrays.append(plane.pack((codes >> np.uint8(shift)) & np.uint8((1 << plane.bits) - 1)))
            shift += plane.bits
        return tuple(arrays)

    def __str__(self) -> str:
        """A name: layouts of one format with equal names are equal."""
        planes = "+".join(f"{p.bits}in{p.container}" for p in self.planes)
        first = self.planes[0]
        whole = "-whole" if first.whole else ""
        return f"{planes}-v{first.values}-b{first.block_k}-{first.contiguous}{whole}"
