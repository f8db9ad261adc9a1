"""Pooling in NumPy: one axis after another, since a window's largest element, or its sum, is that of its rows'."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np
from onnx import NodeProto

from fettle.glue.calls import Call, Constants, Maker, attributes, in_turn
from fettle.graph.onnx.windows import Window

Slices = tuple[slice, ...]


def _max_pool(node: NodeProto, inputs: Sequence[np.ndarray], constants: Constants, out: np.ndarray) -> Call | None:
    """Padding never wins: it is not looked at."""
    x, window = inputs[0], _window(node, inputs[0])
    least = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    return in_turn(list(_by_axis(np.maximum, least, window, x, out)))


def _average_pool(node: NodeProto, inputs: Sequence[np.ndarray], constants: Constants, out: np.ndarray) -> Call | None:
    """The sum over the number of elements: those of the image, or those of the padded one."""
    x, window = inputs[0], _window(node, inputs[0])
    padded = bool(attributes(node).get("count_include_pad", 0))
    counts = np.ones((), x.dtype)
    for axis, extent in enumerate(out.shape[2:]):
        first = np.arange(extent) * window.strides[axis] - window.begins[axis]
        taps = first[:, None] + np.arange(window.size[axis]) * window.dilations[axis]
        low, high = (-window.begins[axis], x.shape[2 + axis] + window.ends[axis]) if padded else (0, x.shape[2 + axis])
        inside = ((taps >= low) & (taps < high)).sum(axis=1)
        counts = counts[..., None] * inside.astype(x.dtype)
    sums = _by_axis(np.add, 0.0, window, x, out)
    return in_turn([*sums, partial(np.divide, out, counts, out=out)])


def _window(node: NodeProto, x: np.ndarray) -> Window:
    return Window.of(node, x.shape[2:], attributes(node)["kernel_shape"])


def _by_axis(combine: np.ufunc, neutral: float, window: Window, x: np.ndarray, out: np.ndarray) -> Iterator[Call]:
    """Reduce the windows of the axes of an image, outermost first: its rows are contiguous."""
    source = x
    for number in range(len(window.size)):
        axis = 2 + number
        shape = (*source.shape[:axis], out.shape[axis], *source.shape[axis + 1 :])
        target = out if shape == out.shape and number == len(window.size) - 1 else np.empty(shape, x.dtype)
        yield partial(target.fill, neutral)
        for tap in range(window.size[number]):
            into, of = _meeting(window, number, tap, source.shape[axis], target.shape[axis])
            before = (slice(None),) * axis
            part = target[(*before, into)]
            yield partial(combine, part, source[(*before, of)], out=part)
        source = target


def _meeting(window: Window, axis: int, tap: int, size: int, extent: int) -> tuple[slice, slice]:
    """Results whose window has this tap inside the image, and the elements that are there."""
    stride, offset = window.strides[axis], tap * window.dilations[axis] - window.begins[axis]
    first = max(0, -(offset // stride))
    last = max(first, min(extent, (size - 1 - offset) // stride + 1))
    start = first * stride + offset
    return slice(first, last), slice(start, start + (last - first) * stride, stride)


POOLS: Mapping[str, Maker] = {"MaxPool": _max_pool, "AveragePool": _average_pool}
