"""Look-ups and changes by index, the largest elements, running sums and triangles, as NumPy calls on fixed arrays."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from onnx import NodeProto

from fettle.glue.calls import Call, Constants, Maker, attributes
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
        out.fill(0)
        np.copyto(out, inputs[0], where=kept)

    return call


def _scatter_elements(
    node: NodeProto, inputs: Sequence[np.ndarray], constants: Constants, out: np.ndarray
) -> Call | None:
    """Updates go where the indices say along one axis, and stay where they are along the others."""
    data, indices, updates = inputs
    axis = integer(node, "axis", 0) % data.ndim
    combine = _combination(node, data)
    if combine is None:
        return None
    grid = list(np.ix_(*map(np.arange, indices.shape)))

    def call() -> None:
        np.copyto(out, data)
        grid[axis] = indices
        combine(out, tuple(grid), updates)

    return call


def _scatter_nd(node: NodeProto, inputs: Sequence[np.ndarray], constants: Constants, out: np.ndarray) -> Call | None:
    """Updates go where the last axis of the indices says."""
    data, indices, updates = inputs
    combine = _combination(node, data)
    if combine is None:
        return None

    def call() -> None:
        np.copyto(out, data)
        combine(out, tuple(np.moveaxis(indices, -1, 0)), updates)

    return call


def _combination(node: NodeProto, data: np.ndarray) -> Callable[..., object] | None:
    """What scattering does to an element and its updates; None for a word or type that NumPy does not have."""
    word = attributes(node).get("reduction", b"none").decode()
    if data.dtype.kind not in "biuf":
        return None
    return operator.setitem if word == "none" else _COMBINATIONS.get(word)


_COMBINATIONS: Mapping[str, Callable[..., object]] = {
    "add": np.add.at, "mul": np.multiply.at, "max": np.maximum.at, "min": np.minimum.at,
}  # fmt: skip


def _best(node: NodeProto, inputs: Sequence[np.ndarray], constants: Constants, out: np.ndarray) -> Call | None:
    """ArgMax and ArgMin: the first of equal elements."""
    given, x = attributes(node), inputs[0]
    if given.get("select_last_index", 0) or x.dtype.kind not in "biuf":
        return None
    function, axis = np.argmax if node.op_type == "ArgMax" else np.argmin, given.get("axis", 0)
    shape = tuple(size for i, size in enumerate(x.shape) if i != axis % x.ndim)
    return partial(function, x, axis=axis, out=out.reshape(shape))


def top(node: NodeProto, inputs: Sequence[np.ndarray | None], outs: Sequence[np.ndarray]) -> Call | None:
    """TopK: values and indices of the largest or smallest elements in their order, equal ones as they lie."""
    x, given = inputs[0], attributes(node)
    if x is None or x.dtype.kind not in "if" or len(outs) != 2:
        return None
    axis = given.get("axis", -1) % x.ndim
    first = tuple(slice(None) if i != axis else slice(outs[0].shape[axis]) for i in range(x.ndim))
    largest = given.get("largest", 1)
    values, indices = outs
    reverse = np.negative if x.dtype.kind == "f" else np.invert  # the least integer has no negative

    def call() -> None:
        order = np.argsort(reverse(x) if largest else x, axis=axis, kind="stable")[first]
        np.copyto(indices, order)
        np.copyto(values, np.take_along_axis(x, order, axis))

    return call


LOOKUPS: Mapping[str, Maker] = {
    "GatherND": _gather_nd,
    "GatherElements": _gather_elements,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "ArgMax": _best,
    "ArgMin": _best,
    "CumSum": _cumsum,
    "Trilu": _trilu,
}
