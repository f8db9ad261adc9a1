"""Arithmetic, logic, casts and look-ups between the kernels of a model, as NumPy calls on fixed arrays.

What transformers do with masks, positions and rotations: small arrays, broadcast, of any type. Each function makes the
call of one operator, or gives None for a form of it that is left to the reference evaluator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from onnx import NodeProto

from fettle.graph.onnx.protos import integer

Call = Callable[[], object]
Arrays = Sequence[np.ndarray]
Constants = Mapping[str, np.ndarray]

_UFUNCS: Mapping[str, np.ufunc] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Neg": np.negative, "Abs": np.abs, "And": np.logical_and,
    "Or": np.logical_or, "Xor": np.logical_xor, "Not": np.logical_not, "Equal": np.equal, "Less": np.less,
    "LessOrEqual": np.less_equal, "Greater": np.greater, "GreaterOrEqual": np.greater_equal, "IsNaN": np.isnan,
}  # fmt: skip
"""Exact for every type of NumPy's own."""

_FLOAT_UFUNCS: Mapping[str, np.ufunc] = {
    "Div": np.divide, "Pow": np.power, "Sqrt": np.sqrt, "Reciprocal": np.reciprocal, "Exp": np.exp, "Cos": np.cos,
    "Sin": np.sin, "Tanh": np.tanh, "Floor": np.floor, "Ceil": np.ceil, "Round": np.rint,
}  # fmt: skip
"""As ONNX has them where all operands are floats of one type: ONNX rounds quotients of integers towards zero."""


def _is_plain(*arrays: np.ndarray) -> bool:
    """Whether types are NumPy's own: its ufuncs know no bfloat16."""
    return all(array.dtype.kind in "biuf" for array in arrays)


def _ufunc(node: NodeProto, inputs: Arrays, constants: Constants, out: np.ndarray) -> Call | None:
    return partial(_UFUNCS[node.op_type], *inputs, out=out) if _is_plain(*inputs, out) else None


def _float_ufunc(node: NodeProto, inputs: Arrays, constants: Constants, out: np.ndarray) -> Call | None:
    if any(array.dtype != out.dtype for array in inputs) or out.dtype.kind != "f":
        return None
    return partial(_FLOAT_UFUNCS[node.op_type], *inputs, out=out)


def _cast(node: NodeProto, inputs: Arrays, constants: Constants, out: np.ndarray) -> Call | None:
    return partial(np.copyto, out, inputs[0], casting="unsafe") if _is_plain(inputs[0], out) else None


def _where(node: NodeProto, inputs: Arrays, constants: Constants, out: np.ndarray) -> Call:
    condition, then, otherwise = inputs

    def call() -> None:
        np.copyto(out, otherwise)
        np.copyto(out, then, where=condition)

    return call


def _gather_nd(node: NodeProto, inputs: Arrays, constants: Constants, out: np.ndarray) -> Call | None:
    """Positions in the flattened data, computed once where the indices are constant."""
    data, indices = inputs
    depth = indices.shape[-1]
    if integer(node, "batch_dims", 0) or not data.flags.c_contiguous:
        return None
    lead = data.shape[:depth]
    flat = data.reshape(-1, *data.shape[depth:])

    def positions() -> np.ndarray:
        wrapped = [np.where(at < 0, at + size, at) for at, size in zip(np.moveaxis(indices, -1, 0), lead, strict=True)]
        return np.asarray(np.ravel_multi_index(tuple(wrapped), lead))

    if node.input[1] in constants:
        return partial(np.take, flat, positions(), axis=0, out=out)
    return lambda: np.take(flat, positions(), axis=0, out=out)


def _gather_elements(node: NodeProto, inputs: Arrays, constants: Constants, out: np.ndarray) -> Call:
    data, indices = inputs
    axis = integer(node, "axis", 0) % data.ndim
    inside = data[tuple(slice(None) if i == axis else slice(size) for i, size in enumerate(indices.shape))]
    return lambda: np.copyto(out, np.take_along_axis(inside, indices, axis))


def _cumsum(node: NodeProto, inputs: Arrays, constants: Constants, out: np.ndarray) -> Call | None:
    if node.input[1] not in constants or integer(node, "exclusive", 0) or integer(node, "reverse", 0):
        return None
    return partial(np.cumsum, inputs[0], axis=int(constants[node.input[1]].reshape(())), out=out)


def _trilu(node: NodeProto, inputs: Arrays, constants: Constants, out: np.ndarray) -> Call | None:
    if len(node.input) > 1 and node.input[1] and node.input[1] not in constants:
        return None
    offset = int(constants[node.input[1]].reshape(())) if len(node.input) > 1 and node.input[1] else 0
    upper = integer(node, "upper", 1)
    kept = ~np.tri(*out.shape[-2:], offset - 1, np.bool_) if upper else np.tri(*out.shape[-2:], offset, np.bool_)

    def call() -> None:
        np.copyto(out, 0)
        np.copyto(out, inputs[0], where=kept)

    return call


MAKERS: Mapping[str, Callable[..., Call | None]] = {
    **dict.fromkeys(_UFUNCS, _ufunc),
    **dict.fromkeys(_FLOAT_UFUNCS, _float_ufunc),
    "Cast": _cast,
    "Where": _where,
    "GatherND": _gather_nd,
    "GatherElements": _gather_elements,
    "CumSum": _cumsum,
    "Trilu": _trilu,
}
"""By the operator, all of the default domain. Arguments: the node, its inputs (None for those left out), constants by
name, and the array for the result."""
