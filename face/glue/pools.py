"""Pooling in NumPy: one axis after another, since a window's largest element, or its sum, is that of its rows'."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np
from onnx import NodeProto

from fettle.glue.calls import Call, Constants, Maker, attributes, in_turn
from fettle.graph.onnx.windows import Window

_NEAR = 3
"""Strides up to which windows at every place take less time than reading elements that are not neighbours."""


def _max_pool(node: NodeProto, inputs: Sequence[np.ndarray], constants: Constants, out: np.ndarray) -> Call | None:
    """Padding never wins: it is not looked at. NumPy does not say what the least bfloat16 is."""
    if inputs[0].dtype.kind not in "iuf":
        return None
    x, window = inputs[0], _window(node, inputs[0], out)
    least = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    return in_turn(list(_by_axis(np.maximum, least, window, x, out)))


def max_pool_with_indices(
    node: NodeProto, inputs: Sequence[np.ndarray | None], outs: Sequence[np.ndarray]
) -> Call | None:
    """Also where each largest element lies in the flattened input: the first of equal ones, as PyTorch has it."""
    x = inputs[0]
    if x is None or x.dtype.kind not in "iuf" or attributes(node).get("storage_order", 0):
        return None
    if not outs[0].size:
        return in_turn([])
    window, axes = _window(node, x, outs[0]), x.ndim - 2
    least = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    extents = outs[0].shape[2:]
    reach = [(e - 1) * s + (k - 1) * d + 1 for e, s, k, d in zip(
        extents, window.strides, window.size, window.dilations, strict=True
    )]  # fmt: skip
    pads = [(b, max(r - b - size, 0)) for b, r, size in zip(window.begins, reach, x.shape[2:], strict=True)]
    places = np.pad(np.arange(x.size).reshape(x.shape), [(0, 0), (0, 0), *pads], constant_values=-1)
    full = [1, 1, *((k - 1) * d + 1 for k, d in zip(window.size, window.dilations, strict=True))]
    steps = [slice(0, (e - 1) * s + 1, s) for e, s in zip(extents, window.strides, strict=True)]
    taps = [slice(None, None, d) for d in window.dilations]
    chosen: tuple[slice | int, ...] = (slice(None), slice(None), *steps, 0, 0, *taps)
    shape = (*outs[0].shape, math.prod(window.size))

    def windows(padded: np.ndarray) -> np.ndarray:
        views = np.lib.stride_tricks.sliding_window_view(padded, full)
        found: np.ndarray = views[chosen]
        return found.reshape(shape)

    where = windows(places)
    # Where padding is the largest, no element of the window is larger than another: the first one counts.
    where = np.where(where < 0, np.take_along_axis(where, (where >= 0).argmax(axis=-1)[..., None], -1), where)

    def call() -> None:
        seen = windows(np.pad(x, [(0, 0), (0, 0), *pads], constant_values=least))
        best = seen.argmax(axis=-1)[..., None]
        for out, source in zip(outs, (seen, where), strict=True):
            np.copyto(out, np.take_along_axis(source, best, -1)[..., 0])

    return call if axes else None


def _average_pool(node: NodeProto, inputs: Sequence[np.ndarray], constants: Constants, out: np.ndarray) -> Call | None:
    """The sum over the number of elements: those of the image, or those of the padded one."""
    x, window = inputs[0], _window(node, inputs[0], out)
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


def _window(node: NodeProto, x: np.ndarray, out: np.ndarray) -> Window:
    """Raises ValueError where a window of ``ceil_mode`` would begin after the image: ONNX has none, but infers it."""
    window = Window.of(node, x.shape[2:], attributes(node)["kernel_shape"])
    lasts = zip(out.shape[2:], window.strides, window.begins, x.shape[2:], strict=True)
    if attributes(node).get("ceil_mode", 0) and any((n - 1) * step - begin >= size for n, step, begin, size in lasts):
        raise ValueError("the last window begins after the image; leave ceil_mode out")
    return window


def _by_axis(combine: np.ufunc, neutral: float, window: Window, x: np.ndarray, out: np.ndarray) -> Iterator[Call]:
    """Reduce the windows of the axes of an image, outermost first: its rows are contiguous."""
    source = x
    for axis in range(2, x.ndim - 1):
        target = np.empty((*source.shape[:axis], out.shape[axis], *source.shape[axis + 1 :]), x.dtype)
        yield from _along(axis, combine, neutral, window, source, target)
        source = target
    if combine is np.maximum and 1 < window.strides[-1] <= _NEAR:
        yield from _largest_along_rows(neutral, window, source, out)
    else:
        yield from _along(x.ndim - 1, combine, neutral, window, source, out)


def _along(
    axis: int, combine: np.ufunc, neutral: float, window: Window, source: np.ndarray, target: np.ndarray
) -> Iterator[Call]:
    """One axis, tap by tap; taps that all windows have inside the image come first: nothing has to be filled."""
    before = (slice(None),) * axis
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    for tap in range(window.size[axis - 2]):
        into, of = _meeting(window, axis - 2, tap, source.shape[axis], target.shape[axis])
        parts.append((target[(*before, into)], source[(*before, of)]))
    parts.sort(key=lambda part: part[0].size, reverse=True)
    everywhere = [of for into, of in parts if into.shape == target.shape]
    if len(everywhere) > 1:
        yield partial(combine, *everywhere[:2], out=target)
    elif everywhere:
        yield partial(np.copyto, target, everywhere[0])
    else:
        yield partial(target.fill, neutral)
    for part, elements in parts[min(len(everywhere), 2) :]:
        yield partial(combine, part, elements, out=part)


def _largest_along_rows(neutral: float, window: Window, source: np.ndarray, target: np.ndarray) -> Iterator[Call]:
    """The last axis, as the largest elements of the windows at every place of padded rows, of which results are picked.

    All rows are one run of neighbouring elements, which NumPy compares a vector at a time. Windows that reach into the
    next row are computed as well, and not picked.
    """
    size, stride, dilation, begin = (v[-1] for v in (window.size, window.strides, window.dilations, window.begins))
    columns, extent, reach = source.shape[-1], target.shape[-1], (size - 1) * dilation
    width = max(begin + columns, (extent - 1) * stride + reach + 1)
    padded = np.full((*source.shape[:-1], width), neutral, source.dtype)
    yield partial(np.copyto, padded[..., begin : begin + columns], source)
    elements, largest = padded.reshape(-1), np.empty(padded.size, padded.dtype)
    count = elements.size - reach
    so_far = elements
    for tap in range(1, size):
        shifted = elements[tap * dilation : tap * dilation + count]
        yield partial(np.maximum, so_far[:count], shifted, out=largest[:count])
        so_far = largest
    yield partial(np.copyto, target, so_far.reshape(padded.shape)[..., : extent * stride : stride])


def _meeting(window: Window, axis: int, tap: int, size: int, extent: int) -> tuple[slice, slice]:
    """Results whose window has this tap inside the image, and the elements that are there."""
    stride, offset = window.strides[axis], tap * window.dilations[axis] - window.begins[axis]
    first = max(0, -(offset // stride))
    last = max(first, min(extent, (size - 1 - offset) // stride + 1))
    start = first * stride + offset
    return slice(first, last), slice(start, start + (last - first) * stride, stride)


POOLS: Mapping[str, Maker] = {"MaxPool": _max_pool, "AveragePool": _average_pool}
