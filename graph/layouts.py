"""Layouts: how a tensor's elements sit in memory, as algebra instead of loops.

A layout is a list of modes, each a (shape, stride) pair. It maps a linear coordinate (first mode fastest)
to an offset: ``offset(i) = Σ_j ((i / Π_{l<j} shape_l) mod shape_j) · stride_j``. This is the flat form of
the layouts of CuTe and Tilus (2504.12984).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.graph.errors import InvalidArgument

_PICTURED = 4096


def _ints(values: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(v) for v in values)


@attrs.frozen
class Layout:
    """A mapping from ``size`` coordinates to offsets.

    Attributes:
        shape: extent of each mode, all >= 1; the first mode is the fastest coordinate.
        stride: offset step of each mode, all >= 0, in elements.
    """

    shape: tuple[int, ...] = attrs.field(converter=_ints)
    stride: tuple[int, ...] = attrs.field(converter=_ints)

    def __attrs_post_init__(self) -> None:
        if len(self.shape) != len(self.stride):
            raise InvalidArgument(f"layout has {len(self.shape)} shapes but {len(self.stride)} strides")
        if any(s < 1 for s in self.shape) or any(d < 0 for d in self.stride):
            raise InvalidArgument(f"layout {self} needs shapes >= 1 and strides >= 0")

    @classmethod
    def compact(cls, shape: Sequence[int], order: Sequence[int] | None = None) -> Layout:
        """The dense layout of ``shape`` whose modes are packed in ``order`` (first = contiguous)."""
        stride = [0] * len(shape)
        step = 1
        for mode in order if order is not None else range(len(shape)):
            stride[mode] = step
            step *= shape[mode]
        return cls(tuple(shape), tuple(stride))

    def __str__(self) -> str:
        return f"({','.join(map(str, self.shape))}):({','.join(map(str, self.stride))})"

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return math.prod(self.shape)

    @property
    def extent(self) -> int:
        """One past the largest offset."""
        return 1 + sum((s - 1) * d for s, d in zip(self.shape, self.stride, strict=True))

    def __call__(self, index: int) -> int:
        """Offset of coordinate ``index``, 0 <= index < size."""
        if not 0 <= index < self.size:
            raise InvalidArgument(f"coordinate {index} is outside layout {self} of size {self.size}")
        offset = 0
        for extent, step in zip(self.shape, self.stride, strict=True):
            offset += index % extent * step
            index //= extent
        return offset

    def offsets(self) -> NDArray[np.int64]:
        """All offsets in coordinate order, shape ``[size]``."""
        result = np.zeros(1, np.int64)
        for extent, step in zip(self.shape, self.stride, strict=True):
            result = (np.arange(extent, dtype=np.int64)[:, None] * step + result).reshape(-1)
        return result

    def coalesce(self) -> Layout:
        """The same mapping with the fewest modes."""
        modes: list[tuple[int, int]] = []
        for extent, step in zip(self.shape, self.stride, strict=True):
            if extent == 1:
                continue
            if modes and modes[-1][0] * modes[-1][1] == step:
                modes[-1] = (modes[-1][0] * extent, modes[-1][1])
            else:
                modes.append((extent, step))
        modes = modes or [(1, 0)]
        return Layout(tuple(m[0] for m in modes), tuple(m[1] for m in modes))

    def is_bijection(self) -> bool:
        """Proof, not a test: true if and only if the offsets are exactly 0 … size-1.

        Sorted by stride, a mixed-radix system covers 0 … size-1 exactly once if and only if each stride
        is the product of the extents before it.
        """
        step = 1
        for stride, extent in sorted((d, s) for s, d in zip(self.shape, self.stride, strict=True) if s > 1):
            if stride != step:
                return False
            step *= extent
        return True

    def inverse(self) -> Layout:
        """The layout that maps offsets back to coordinates: ``inverse()(self(i)) == i``.

        Raises:
            InvalidArgument: this layout is no bijection.
        """
        if not self.is_bijection():
            raise InvalidArgument(f"layout {self} is not a bijection, so it has no inverse")
        coordinate_step = 1
        modes = []
        for extent, stride in zip(self.shape, self.stride, strict=True):
            if extent > 1:
                modes.append((stride, extent, coordinate_step))
            coordinate_step *= extent
        modes.sort()
        return Layout(tuple(m[1] for m in modes), tuple(m[2] for m in modes)) if modes else Layout((1,), (0,))

    def compose(self, inner: Layout) -> Layout:
        """``self ∘ inner``: ``compose(inner)(i) == self(inner(i))``.

        The sum of two coordinates maps to the sum of their offsets only if no mode of ``self`` carries into
        the next; that is checked on the coalesced form, where it is necessary too.

        Raises:
            InvalidArgument: the composition is no layout (a mode of ``inner`` straddles modes of ``self``, or two
                of them carry), or an offset of ``inner`` is outside ``self``.
        """
        if inner.extent > self.size:
            raise InvalidArgument(f"layout {inner} reaches {inner.extent} coordinates, {self} has {self.size}")
        outer = self.coalesce()
        highest = [0] * len(outer.shape)
        modes: list[tuple[int, int]] = []
        for extent, step in zip(inner.shape, inner.stride, strict=True):
            modes += outer._slice(extent, step, highest)
        if any(digit >= size for digit, size in zip(highest, outer.shape, strict=True)):
            raise InvalidArgument(f"modes of layout {inner} carry inside layout {self}")
        return Layout(tuple(m[0] for m in modes), tuple(m[1] for m in modes))

    def _slice(self, extent: int, step: int, highest: list[int]) -> list[tuple[int, int]]:
        """Modes of ``self`` visited by the coordinates 0, step, 2·step, … (``extent`` of them).

        Adds to ``highest`` the largest digit each mode of ``self`` takes.
        """
        if extent == 1 or step == 0:
            return [(extent, 0)]
        modes = []
        left, skip = extent, step
        for mode, (size, stride) in enumerate(zip(self.shape, self.stride, strict=True)):
            if skip >= size and skip % size == 0:
                skip //= size
                continue
            if size % skip:
                raise InvalidArgument(f"step {step} does not divide the modes of layout {self}")
            room = size // skip
            take = min(room, left)
            if left % take:
                raise InvalidArgument(f"extent {extent} does not divide the modes of layout {self}")
            modes.append((take, stride * skip))
            highest[mode] += (take - 1) * skip
            left //= take
            skip = 1
            if left == 1:
                return modes
            if take != room:
                raise InvalidArgument(f"extent {extent} straddles the modes of layout {self}")
        raise InvalidArgument(f"extent {extent} with step {step} leaves layout {self}")

    def divide(self, tile: int) -> tuple[Layout, Layout]:
        """Split into (within a tile, among tiles) of ``tile`` consecutive coordinates.

        Raises:
            InvalidArgument: ``tile`` does not divide the size or straddles modes.
        """
        if tile < 1 or self.size % tile:
            raise InvalidArgument(f"tile {tile} does not divide layout {self} of size {self.size}")
        return self.compose(Layout((tile,), (1,))), self.compose(Layout((self.size // tile,), (tile,)))

    def tile(self, outer: Layout) -> Layout:
        """Copies of this layout side by side, placed by ``outer``: ``self`` within a tile, ``outer`` among tiles.

        ``tile(outer)(i + size·t) == self(i) + extent·outer(t)``: the Kronecker product of Tilus (2504.12984), CuTe's
        blocked product. Bijections give a bijection, and dividing by ``size`` gives (this layout, the rest).
        """
        shifted = Layout(outer.shape, tuple(step * self.extent for step in outer.stride))
        return Layout(self.shape + shifted.shape, self.stride + shifted.stride)

    def picture(self, columns: int) -> str:
        """The coordinates as they lie in memory, ``columns`` offsets a line; holes are dots, sharers are joined by +.

        Raises:
            InvalidArgument: no columns, or more offsets than fit on a page.
        """
        if columns < 1 or self.extent > _PICTURED:
            raise InvalidArgument(f"layout {self} reaches {self.extent} offsets; at most {_PICTURED} are pictured")
        cells = [""] * (-(-self.extent // columns) * columns)
        for coordinate, offset in enumerate(self.offsets().tolist()):
            cells[offset] += f"{'+' if cells[offset] else ''}{coordinate}"
        width = max(map(len, cells), default=1)
        lines = [cells[start : start + columns] for start in range(0, len(cells), columns)]
        return "\n".join(" ".join((cell or ".").rjust(width) for cell in line) for line in lines)

    def scatter(self, values: NDArray[np.generic]) -> NDArray[np.generic]:
        """Re-lay ``values`` (coordinate order, C-contiguous, ``size`` elements) into memory order.

        Returns ``out`` with ``out[self(i)] = values[i]``, by one transposition (no index arrays).

        Raises:
            InvalidArgument: this layout is no bijection, or ``values`` has another size.
        """
        if values.size != self.size:
            raise InvalidArgument(f"layout {self} has {self.size} coordinates, got {values.size} values")
        if not self.is_bijection():
            raise InvalidArgument(f"layout {self} is not a bijection")
        count = len(self.shape)
        axes = sorted(range(count), key=lambda mode: (self.stride[mode], self.shape[mode]), reverse=True)
        cube = values.reshape(tuple(reversed(self.shape)))
        return np.ascontiguousarray(cube.transpose([count - 1 - mode for mode in axes])).reshape(-1)
