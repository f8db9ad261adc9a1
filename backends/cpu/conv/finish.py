"""What happens to sums on their way to the result: the epilogue, and the store."""

from __future__ import annotations

from typing import Any

from fettle.backends.cpu.conv.geometry import Geometry
from fettle.backends.cpu.conv.loops import of_group
from fettle.backends.cpu.rows.elementwise import evaluate
from fettle.backends.cpu.rows.vectors import Vectors


class Finish:
    """The epilogue of a convolution, and its place in ``y`` [n, oc, …], whose shape the ``full`` operands have.

    ``rows`` have an element for each channel of all groups.
    """

    def __init__(self, g: Geometry, vectors: Vectors, y: Any, rows: list[Any], full: list[Any]) -> None:
        self.vectors = vectors
        self._g, self._y, self._rows, self._full = g, y, rows, full

    def store(self, product: Any, place: tuple[Any, ...], mask: Any = None) -> None:
        """Neighbouring sums, those of the mask if there is one, from ``place`` = (image, channel, …) on."""
        g, vectors, value = self._g, self.vectors, product
        if g.epilogue is not None:
            image, channel, *_ = place
            operands = [
                vectors.let(product),
                *(vectors.spread(b[of_group(g, image, g.oc) + channel]) for b in self._rows),
                *(vectors.load(full, place, mask) for full in self._full),
            ]
            value = evaluate(vectors, g.epilogue.expression, operands)
        vectors.store(self._y, place, value, mask)
