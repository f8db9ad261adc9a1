"""Binary-coded weights as weights of one bit: their planes one behind another along K.

A weight is a sum of planes of ±1, each with scales of its own, and so is its product: of one-bit weights with the same
x. Plane p's piece c of K, as long as a group or a block, whichever is longer, becomes piece ``c · planes + p``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fettle.graph.quantized import QuantizedWeight


def stacked(weight: QuantizedWeight, piece: int) -> tuple[NDArray[np.uint8], NDArray[np.floating]]:
    """Codes ``[N, planes · K]``, 0 or 1, and scales ``[N, planes · groups]``.

    Args:
        piece: a multiple of the group that divides K.
    """
    n, k = weight.shape
    planes = weight.format.scale_planes
    bits = (weight.codes[..., None] >> np.arange(planes, dtype=np.uint8)) & np.uint8(1)

    def rearranged(of_planes: NDArray[np.generic]) -> NDArray[np.generic]:
        """``[N, K or groups, planes]`` along one axis."""
        pieces = of_planes.reshape(n, k // piece, -1, planes).swapaxes(2, 3)
        return np.ascontiguousarray(pieces).reshape(n, -1)

    return np.asarray(rearranged(bits)), np.asarray(rearranged(weight.scales))
