"""Look-ups by index, running sums and triangles between the kernels of a model, as NumPy calls on fixed arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from onnx import NodeProto

from fettle.glue.calls import Call, Constants, Maker
from fettle.graph.onnx.protos import integer


def _gather_nd(node: NodeProto, inputs: Sequence[np.ndarray], constants: Constants, out: np.ndarray) -> Call | None:
    """Positions in the flattened data, computed once where the indices are constant."""
    data, indices = inputs
    depth = indices.shape[-1]
    if integer(node, "batch_dims", 0) or not data.flags.c_contiguous:
        return None
    lead = data.shape[:depth]
    flat = data.reshape(math.prod(lead), *data.shape[depth:])

    def positions() -> np.ndarray:
        wrapped = [np.where(at < 0, at + size, at) for at, size in zip(np.moveaxis(indices, -1, 0), lead, strict=True)]
        return np.asarray(np.ravel_multi_index(tuple(wrapped), lead))

    if node.input[1] in constants:
        return partial(np.take, flat, positions(), axis=0, out=out)
    return lambda: np.take(flat, positions(), axis=0, out=out)


def _gather_elements(node: NodeProto, inputs: Sequence[np.ndarray], constants: Constants, out: np.ndarray) -> Call:
    data, indices = inputs
    axis = integer(node, "axis", 0) % data.ndim
    inside = data[tuple(slice(None) if i == axis else slice(size) for i, size in enumerate(indices.shape))]
    return lambda: np.copyto(out, np.take_along_axis(inside, indices, axis))


def _cumsum(node: NodeProto, inputs: Sequence[np.ndarray], constants: Constants, out: np.ndarray) -> Call | None:
    if node.input[1] not in constants or integer(node, "exclusive", 0) or integer(node, "reverse", 0):
        return None
    return partial(np.cumsum, inputs[0], axis=int(constants[node.input[1]].reshape(())), out=out)


def _trilu(node: NodeProto, inputs: Sequence[np.ndarray], constants: Constants, out: np.ndarray) -> Call | None:
    if len(node.input) > 1 and node.input[1] and node.input[1] not in constants:
        return None
    offset = int(constants[node.input[1]].reshape(())) if len(node.input) > 1 and node.input[1] else 0
    rows, cols = out.shape[-2:]
    upper = integer(node, "upper", 1)
    kept = ~np.tri(rows, cols, offset - 1, np.bool_) if upper else np.tri(rows, cols, offset, np.bool_)

    def call() -> None:
        np.copyto(out, 0)
        np.copyto(out, inputs[0], where=kept)

    return call


LOOKUPS: Mapping[str, Maker] = {
    "GatherND": _gather_nd,
    "GatherElements": _gather_elements,
    "CumSum": _cumsum,
    "Trilu": _trilu,
}
