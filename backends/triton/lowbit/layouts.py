"""How the codes of a weight ``[N, K]`` lie in memory, as layouts over bits.

K is cut into blocks of ``block_k = values · step``; value j of row r of a block is ``k = block·block_k + j·step + r``.
The bits of the ``values`` codes of one (n, block, r) follow one another, low bits first, and fill ``words``
containers exactly. Containers of a block are contiguous along n (``n``), or along r (``k``)::

    (bit, word, r, block, n) : (1, c·w, c·r, c·b, c·n)          c bits of a container
    "n":  w = step·N      r = N      b = words·step·N     n = 1
    "k":  w = step        r = 1      b = words·step·N     n = words·step
"""

from __future__ import annotations

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
class PlaneLayout:
    """Where the codes of one plane of ``bits`` bits lie.

    Attributes:
        container: bits of one container.
        values: codes that share their containers.
        block_k: codes of one row of a block; a multiple of ``values``.
        contiguous: ``n`` or ``k``.
    """

    n: int
    k: int
    bits: int
    container: int
    values: int
    block_k: int
    contiguous: str

    @property
    def words(self) -> int:
        """Containers that ``values`` codes fill."""
        return self.bits * self.values // self.container

    @property
    def step(self) -> int:
        """Distance along K of codes that share a container."""
        return self.block_k // self.values

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
        for j in range(self.values):
            code = runs[:, :, j].astype(container)
            word, bit = divmod(j * self.bits, self.container)
            packed[word] |= code << container.type(bit)
            if bit + self.bits > self.container:  # it straddles two
                packed[word + 1] |= code >> container.type(self.container - bit)
        axes = (2, 0, 3, 1) if self.contiguous == "n" else (2, 1, 0, 3)
        return np.ascontiguousarray(packed.transpose(axes)).reshape(-1)


@attrs.frozen
class WeightLayout:
    """The planes of a weight: all bits together, or the low and the high bits apart."""

    planes: tuple[PlaneLayout, ...]

    @classmethod
    def of(
        cls,
        n: int,
        k: int,
        bits: int,
        values: int,
        block_k: int,
        contiguous: str,
        low: int,
        container: int | None = None,
    ) -> WeightLayout:
        """The layout of ``bits`` bits, the lowest ``low`` of them in a plane of their own (all: one plane).

        Containers are as given, else the largest that one code run of ``values`` codes fills alone.
        """

        def plane(part: int) -> PlaneLayout:
            alone = container_of(bits, values) if low == bits else values * part
            return PlaneLayout(n, k, part, container or alone, values, block_k, contiguous)

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
        return f"{planes}-v{first.values}-b{first.block_k}-{first.contiguous}"
