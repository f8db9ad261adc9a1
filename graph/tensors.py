"""Tensors as seen from outside an operator: a name, a shape, a format, a layout."""

from __future__ import annotations

import math

import attrs

from fettle.graph.formats import Format
from fettle.graph.layouts import Layout


@attrs.frozen
class TensorSpec:
    """One operand or result.

    Attributes:
        name: the operand's name inside its operator (``x``, ``weight``, ``y``).
        shape: extents, outermost first. A quantised weight is ``[N, K]``, a dense one ``[K, N]``.
        format: number format of the elements.
        constant: known before the first run (weights): packed once, untimed.
        layout: where elements sit; None means row-major and contiguous.
    """

    name: str
    shape: tuple[int, ...]
    format: Format
    constant: bool = False
    layout: Layout | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the stored tensor; for quantised formats packed, with scales and zero points."""
        if not self.format.is_quantised:
            return self.size * self.format.bits // 8
        rows, k = self.shape
        return math.ceil(rows * k * self.format.bits_per_weight(k) / 8)
