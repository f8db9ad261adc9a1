"""Panels of a constant right-hand side: ``[batch, K, N]`` as ``[batch, ceil(N / micro_n), K, micro_n]``.

Of bfloat16 pairs the K of a panel counts pairs: element ``[b, p, s, j]`` holds ``W[b, 2s, n]`` in its lower and
``W[b, 2s + 1, n]`` in its upper half, n = p·micro_n + j. What lies beyond N and K is zero; K may be
padded to a multiple of ``depth`` pairs.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def name(micro_n: int, pairs: int, depth: int, k: int) -> str:
    """Id of the layout; padding that k does not need makes no other one."""
    padded = f"-k{pairs * depth}" if k % (pairs * depth) > 0 and depth > 1 else ""
    return f"panel-n{micro_n}-{'bf16x2' if pairs == 2 else 'f32'}{padded}:1"


def pack(weight: NDArray[np.generic], micro_n: int, pairs: int, depth: int = 1) -> NDArray[np.generic]:
    """Panels of ``weight[batch, k, n]``, float32 or int32 by ``pairs``."""
    batch, k, n = weight.shape
    if pairs == 1:
        return _panels(np.asarray(weight, np.float32), micro_n)
    bits = np.zeros((batch, math.ceil(k / 2 / depth) * depth * 2, n), np.uint16)
    bits[:, :k] = weight.view(np.uint16)
    joined = bits[:, 0::2].astype(np.uint32) | bits[:, 1::2].astype(np.uint32) << np.uint32(16)
    return _panels(joined.view(np.int32), micro_n)


def _panels(weight: NDArray[np.generic], micro_n: int) -> NDArray[np.generic]:
    batch, k, n = weight.shape
    panels = np.zeros((batch, math.ceil(n / micro_n), k, micro_n), weight.dtype)
    whole = n // micro_n
    panels[:, :whole] = weight[:, :, : whole * micro_n].reshape(batch, k, whole, micro_n).transpose(0, 2, 1, 3)
    if n % micro_n:
        panels[:, whole, :, : n % micro_n] = weight[:, :, whole * micro_n :]
    return panels
