"""Resize in NumPy, nearest and linear: axis by axis, from positions that are known when the model is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from onnx import NodeProto

from fettle.glue.calls import Call, Constants, Maker, attributes, in_turn, known

_ROUNDINGS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}

Positions = Callable[[int, int, float], np.ndarray]
"""(extent of the image, extent of the result, scale) -> where in the image each result lies."""


def _half_pixel_symmetric(size: int, extent: int, scale: float) -> np.ndarray:
    """Half pixels around the image's centre, also where ``scale`` times the extent is no whole number."""
    adjusted = extent / (scale * size)
    return size / 2 * (1 - adjusted) + (np.arange(extent) + 0.5) / scale - 0.5


_POSITIONS: Mapping[str, Positions] = {
    "half_pixel": lambda size, extent, scale: (np.arange(extent) + 0.5) / scale - 0.5,
    "half_pixel_symmetric": _half_pixel_symmetric,
    "pytorch_half_pixel": lambda size, extent, scale: ((np.arange(extent) + 0.5) / scale - 0.5) * (extent > 1),
    "asymmetric": lambda size, extent, scale: np.arange(extent) / scale,
    "align_corners": lambda size, extent, scale: np.arange(extent) * ((size - 1) / max(extent - 1, 1)),
}


def _resize(node: NodeProto, inputs: Sequence[np.ndarray], constants: Constants, out: np.ndarray) -> Call | None:
    given = attributes(node)
    if len(node.input) == 2:  # of opset 10
        return _upsample(node, inputs, constants, out)

    def word(name: str, default: str) -> str:
        return str(given.get(name, default.encode()).decode())

    mode, policy = word("mode", "nearest"), word("keep_aspect_ratio_policy", "stretch")
    positions = _POSITIONS.get(word("coordinate_transformation_mode", "half_pixel"))
    if mode not in ("nearest", "linear") or positions is None or policy != "stretch" or given.get("antialias", 0):
        return None
    if mode == "linear" and inputs[0].dtype.kind != "f":  # shares of the neighbours are no integers
        return None
    return _along_axes(
        inputs[0],
        _scales(node, inputs[0], constants, given.get("axes"), out),
        out,
        positions,
        _ROUNDINGS[word("nearest_mode", "round_prefer_floor")] if mode == "nearest" else None,
    )


def _upsample(node: NodeProto, inputs: Sequence[np.ndarray], constants: Constants, out: np.ndarray) -> Call | None:
    """Upsample (opsets 7 to 9), and what it became in opset 10."""
    given = attributes(node)
    scales = known(node, constants, 1, "scales")
    if scales is None:
        return None
    nearest = given.get("mode", b"nearest") == b"nearest"
    return _along_axes(inputs[0], scales.tolist(), out, _POSITIONS["asymmetric"], np.floor if nearest else None)


def _scales(
    node: NodeProto, x: np.ndarray, constants: Constants, axes: Sequence[int] | None, out: np.ndarray
) -> Sequence[float]:
    """Of every axis: as given, or by the sizes given.

    Raises:
        NotConstant: they may change between passes.
    """
    found = known(node, constants, 2, "scales")
    if found is None or not found.size:
        return [after / before for after, before in zip(out.shape, x.shape, strict=True)]
    scales = [1.0] * x.ndim
    for axis, scale in zip(axes or range(x.ndim), found.tolist(), strict=True):
        scales[axis] = scale
    return scales


def _along_axes(
    x: np.ndarray,
    scales: Sequence[float],
    out: np.ndarray,
    positions: Positions,
    rounding: Callable[[np.ndarray], np.ndarray] | None,
) -> Call:
    """Resize the axes whose scale is not 1; ``rounding`` makes it nearest, else it is linear.

    Those that shrink come first, then the innermost, so that whatever moves single elements finds few of them.
    """
    axes = [axis for axis, scale in enumerate(scales) if scale != 1.0 or x.shape[axis] != out.shape[axis]]
    axes.sort(key=lambda axis: (out.shape[axis] > x.shape[axis], -axis))
    steps: list[Call] = [] if axes else [partial(np.copyto, out, x)]
    source = x
    for axis in axes:
        size, extent = x.shape[axis], out.shape[axis]
        target = out
        if axis != axes[-1]:
            target = np.empty((*source.shape[:axis], extent, *source.shape[axis + 1 :]), x.dtype)
        at = positions(size, extent, scales[axis])
        if rounding is not None:
            nearest = np.clip(rounding(at), 0, size - 1).astype(np.intp)
            steps.append(partial(np.take, source, nearest, axis=axis, out=target, mode="clip"))
        else:
            steps += _linear(source, target, axis, np.clip(at, 0, size - 1))
        source = target
    return in_turn(steps)


def _linear(source: np.ndarray, target: np.ndarray, axis: int, at: np.ndarray) -> list[Call]:
    """Between the two neighbours of each position."""
    low = np.floor(at).astype(np.intp)
    high = np.minimum(low + 1, source.shape[axis] - 1)
    shape = (-1, *(1 for _ in target.shape[axis + 1 :]))
    share = (at - low).astype(target.dtype).reshape(shape)
    other = np.empty_like(target)
    return [
        partial(np.take, source, low, axis=axis, out=target, mode="clip"),
        partial(np.take, source, high, axis=axis, out=other, mode="clip"),
        partial(np.subtract, other, target, out=other),
        partial(np.multiply, other, share, out=other),
        partial(np.add, target, other, out=target),
    ]


RESIZES: Mapping[str, Maker] = {"Resize": _resize, "Upsample": _upsample}
