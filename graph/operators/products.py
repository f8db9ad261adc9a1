"""Products in float64, by which matrix products are judged."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from fettle.graph.operators.base import CONFIDENCE, ROUNDING, UNIT_ROUNDOFF
from fettle.graph.quantized import QuantizedWeight

_ROW_BLOCK = 1024
"""Rows of a quantised weight that a thread widens at a time."""

_BLOCK, _FEWEST_ROWS = 1 << 20, 64
"""Elements of a dense right-hand side that are widened at a time, and the rows that are at least."""


def dense_products(x: np.ndarray, dense: np.ndarray, count: int) -> list[np.ndarray]:
    """The first ``count`` of x·W, |x|·|W| and x²·W² in float64.

    From some rows of W at a time: whole copies of a large matrix would take longer to get from the system than to
    multiply.
    """
    rows = max(_BLOCK * dense.shape[-2] // dense.size, _FEWEST_ROWS)
    sums: list[np.ndarray] = []
    for start in range(0, dense.shape[-2], rows):
        part = x[..., start : start + rows]
        block = dense[..., start : start + rows, :].astype(np.float64)
        for number in range(count):
            if number == 1:
                part, block = np.abs(part), np.abs(block, out=block)
            if number == 2:
                part, block = part * part, np.multiply(block, block, out=block)
            if start:
                sums[number] += part @ block
            else:
                sums.append(part @ block)
    return sums


def quantised_product(x: NDArray[np.float64], weight: QuantizedWeight, compute: str) -> tuple[NDArray[np.float64], ...]:
    """``x · Wᵀ`` of ``[M, K]`` activations in float64, and its tolerance as ``matmul`` declares it.

    Blocks of rows of W are computed side by side: a float64 copy of all of W may not fit.
    """
    m, k = x.shape
    n = weight.shape[0]
    expected = np.empty((m, n))
    tolerance = np.empty((m, n))
    group, groups = weight.group, weight.format.groups(k)
    padded = np.zeros((m, groups * group))
    padded[:, :k] = np.abs(x)
    grouped = padded.reshape(m, groups, group)
    largest, sizes = grouped.max(axis=2), grouped.sum(axis=2)
    planes = 1 if weight.format.is_binary_coded else weight.format.bits
    table_variance = 0.0 if weight.format.encodes_numbers else weight.format.step**2 * (4.0**planes - 1.0) / 12.0
    starts = np.arange(0, k, group)
    counts = np.diff(np.append(starts, k))

    def block(start: int) -> None:
        rows = slice(start, min(start + _ROW_BLOCK, n))
        dense = weight.dequantise(rows)
        expected[:, rows] = x @ dense.T
        magnitudes = np.abs(x) @ np.abs(dense).T + sizes @ weight.cancelling(rows).T
        tolerance[:, rows] = CONFIDENCE * np.sqrt(k) * UNIT_ROUNDOFF * magnitudes
        if compute == "i8":
            squares = weight.scales[rows].astype(np.float64) ** 2
            if weight.format.is_binary_coded:
                squares = squares.sum(axis=2)
            energy = np.add.reduceat(dense**2, starts, axis=1) + counts * table_variance * squares
            variance = (largest**2) @ energy.T
            tolerance[:, rows] += CONFIDENCE / 127.0 / np.sqrt(12.0) * np.sqrt(variance)
        elif compute in ROUNDING:
            tolerance[:, rows] += CONFIDENCE * ROUNDING[compute] * np.sqrt((x * x) @ (dense * dense).T)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for _ in pool.map(block, range(0, n, _ROW_BLOCK)):
            pass
    return expected, tolerance
