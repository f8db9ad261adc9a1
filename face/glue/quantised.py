"""QuantizeLinear and its like in NumPy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from onnx import NodeProto

from fettle.glue.calls import Call, Constants, Maker, attributes, in_turn

_CODES = (np.int8, np.uint8)


def _grid(node: NodeProto, inputs: Sequence[np.ndarray | None], codes: np.dtype) -> tuple[np.ndarray, ...] | None:
    """Step and zero point, to be broadcast to the tensor; None for blocks."""
    x, scale, zero = [*inputs, None][:3]
    if x is None or scale is None:
        return None
    step = _along(node, scale, x.ndim)
    point = _along(node, np.zeros((), codes) if zero is None else zero, x.ndim)
    return None if step is None or point is None else (step, point)


def _along(node: NodeProto, values: np.ndarray, rank: int) -> np.ndarray | None:
    """Of one number, or one for each element of an axis; None for blocks."""
    if attributes(node).get("block_size", 0) or values.ndim > 1:
        return None
    if values.size == 1:
        return values.reshape(())
    axis = attributes(node).get("axis", 1) % rank
    return values.reshape([-1 if axis == number else 1 for number in range(rank)])


def _quantise(node: NodeProto, inputs: Sequence[np.ndarray], constants: Constants, out: np.ndarray) -> Call | None:
    """x / scale to the nearest whole number, halves to the even one, plus the zero point, between the type's bounds."""
    x, grid = inputs[0], _grid(node, inputs, out.dtype)
    if grid is None or x.dtype != np.float32 or out.dtype not in _CODES:
        return None
    step, zero = grid
    value = np.empty_like(x)
    return in_turn([partial(np.divide, x, step, out=value), partial(_to_codes, value, zero, out)])


def _to_codes(value: np.ndarray, zero: np.ndarray, out: np.ndarray) -> None:
    """Round a quotient, which is overwritten, and store it as codes."""
    limits = np.iinfo(out.dtype)
    np.rint(value, out=value)
    np.add(value, zero, out=value, dtype=np.float32)
    np.clip(value, np.float32(limits.min), np.float32(limits.max), out=value)
    np.copyto(out, value, casting="unsafe")


def _dequantise(node: NodeProto, inputs: Sequence[np.ndarray], constants: Constants, out: np.ndarray) -> Call | None:
    """(code - zero point) · scale."""
    x, grid = inputs[0], _grid(node, inputs, inputs[0].dtype)
    if grid is None or out.dtype != np.float32 or x.dtype not in _CODES:
        return None
    step, zero = grid
    return in_turn([partial(np.subtract, x, zero, out=out, dtype=np.float32), partial(np.multiply, out, step, out=out)])


def quantise_dynamically(inputs: Sequence[np.ndarray | None], outs: Sequence[np.ndarray]) -> Call | None:
    """DynamicQuantizeLinear: uint8 codes, with the step and zero point that the least and largest element give."""
    x = inputs[0]
    codes, step, point = outs
    if x is None or not x.size:
        return None
    value = np.empty_like(x)

    def call() -> None:
        low, high = min(x.min(), np.float32(0)), max(x.max(), np.float32(0))
        scale = (high - low) / np.float32(255) or np.float32(1)
        step[...], point[...] = scale, np.rint(np.clip(-low / scale, 0, 255))
        np.divide(x, scale, out=value)
        _to_codes(value, point, codes)

    return call


QUANTISED: Mapping[str, Maker] = {
    "QuantizeLinear": _quantise,
    "DequantizeLinear": _dequantise,
}
