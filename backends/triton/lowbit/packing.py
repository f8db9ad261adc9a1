"""Where the codes of a schedule's weight lie, and the weight as packed arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fettle.backends.api import Schedule
from fettle.backends.triton.lowbit.layouts import WeightLayout
from fettle.backends.triton.lowbit.product import Product
from fettle.backends.triton.lowbit.spaces import HALFWORDS, LOW_PLANE
from fettle.backends.triton.lowbit.stacking import stacked
from fettle.graph.quantized import QuantizedWeight
from fettle.graph.workload import Workload

SIGN = 1 << 7
"""The sign bit of fixed point, which is packed flipped: codes count from the least number up."""


def layout_name(workload: Workload, schedule: Schedule) -> str:
    """Id of the packed weight."""
    epilogue = workload["epilogue"]
    rows = f"-rows{epilogue.rows}" if epilogue is not None and epilogue.rows else ""
    return f"triton-{workload['weight']}-{weight_layout(Product.of(workload), schedule)}{rows}"


def weight_layout(p: Product, schedule: Schedule) -> WeightLayout:
    """Where the codes of a schedule lie."""
    bits = p.weight.bits
    low = LOW_PLANE[bits] if schedule["planes"] == "two" else bits
    whole = schedule["method"] in HALFWORDS
    if whole:
        bits = low = p.word_bits
    k = p.k * stack(p, schedule)
    return WeightLayout.of(p.n, k, bits, schedule["values"], schedule["block_k"], schedule["contiguous"], low, whole)


def stack(p: Product, schedule: Schedule) -> int:
    """Planes that lie one behind another along K."""
    return p.stack if schedule["method"] in HALFWORDS else 1


def pack(workload: Workload, schedule: Schedule, weight: QuantizedWeight) -> tuple[np.ndarray, ...]:
    """(codes of each plane, scales ``[groups, planes, N]``[, zero points ``[groups, N]``][, the tensor's scale]).

    In words of 16 bits, planes of binary-coded weights are stacked (:mod:`fettle.backends.triton.lowbit.stacking`).
    Beside words of 16 bits, scales and zero points (as f16) of neighbouring groups share words of 32 bits.
    """
    codes = weight.codes ^ np.uint8(SIGN) if weight.format.is_fixed_point else weight.codes
    scales = weight.scales
    if weight.format.scale == "e4m3":  # kernels take them for positive; of minifloats, the sign is the top bit
        scales = np.abs(scales)
        codes = codes ^ weight.expand(np.signbit(weight.scales).astype(np.uint8) << (weight.format.bits - 1))
    p = Product.of(workload)
    if stack(p, schedule) > 1:
        codes, scales = stacked(weight, max(p.group, schedule["block_k"]))
    arrays: list[np.ndarray] = list(weight_layout(p, schedule).pack(codes))
    zeros = weight.zero_points
    if schedule["method"] in HALFWORDS:
        arrays.append(_shared_words(scales))
        zeros = None if zeros is None else _shared_words(zeros.astype(np.float16))
    else:
        arrays.append(_by_groups(scales))
        zeros = None if zeros is None else np.ascontiguousarray(zeros.T)
    return *arrays, *(array for array in (zeros, weight.tensor_scale) if array is not None)


def _shared_words(of_groups: NDArray[np.generic]) -> np.ndarray:
    """``[N, groups]`` as words of 32 bits ``[⌈groups / those in a word⌉, N]``, the first group lowest; f32 as it is."""
    of_groups = of_groups.reshape(len(of_groups), -1)  # a binary-coded weight of one plane has an axis for it
    if of_groups.dtype == np.float32:
        return np.ascontiguousarray(of_groups.T)
    shared = 4 // of_groups.dtype.itemsize
    bits = of_groups.view(f"u{of_groups.dtype.itemsize}")
    padded = np.pad(bits, ((0, 0), (0, -of_groups.shape[1] % shared)))
    return np.ascontiguousarray(np.ascontiguousarray(padded).view(np.uint32).T)


def _by_groups(scales: NDArray[np.generic]) -> np.ndarray:
    """``[N, groups(, planes)]`` as ``[groups, planes, N]``; those of one byte as bytes."""
    found = np.ascontiguousarray(np.atleast_3d(scales).transpose(1, 2, 0))
    return found.view(np.uint8) if found.dtype.itemsize == 1 else found
