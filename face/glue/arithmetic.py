"""Arithmetic that no kernel is made for, in NumPy: broadcast operands, reductions, conversions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
from onnx import NodeProto

from fettle.glue.calls import Call, Constants, Maker, attributes, in_turn, known

_UFUNCS: Mapping[str, np.ufunc] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Min": np.minimum, "Max": np.maximum, "Abs": np.abs,
    "Neg": np.negative, "Sign": np.sign, "And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor,
    "Not": np.logical_not, "Equal": np.equal, "Less": np.less, "LessOrEqual": np.less_equal, "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal, "IsNaN": np.isnan,
}  # fmt: skip
"""Those that mean the same in ONNX, for every type of NumPy's own."""

_FLOAT_UFUNCS: Mapping[str, np.ufunc] = {
    "Div": np.divide, "Sqrt": np.sqrt, "Exp": np.exp, "Log": np.log, "Cos": np.cos, "Sin": np.sin, "Tanh": np.tanh,
    "Floor": np.floor, "Ceil": np.ceil, "Round": np.rint, "Tan": np.tan, "Asin": np.arcsin, "Acos": np.arccos,
    "Atan": np.arctan, "Sinh": np.sinh, "Cosh": np.cosh, "Asinh": np.arcsinh, "Acosh": np.arccosh, "Atanh": np.arctanh,
}  # fmt: skip
"""The same where all operands are floats of one type: ONNX rounds quotients of integers towards zero."""

_REDUCTIONS: Mapping[str, Callable[..., Any]] = {
    "ReduceSum": np.sum, "ReduceMean": np.mean, "ReduceMax": np.max, "ReduceMin": np.min, "ReduceProd": np.prod,
}  # fmt: skip


_SHORT = 4096
"""Numbers that may be added in turn: beyond, sums in pairs are worth their time."""


def _is_plain(*arrays: np.ndarray) -> bool:
    """Whether types are NumPy's own: its functions know no bfloat16."""
    return all(array.dtype.kind in "biuf" for array in arrays)


def _is_float(*arrays: np.ndarray) -> bool:
    """Whether all are floats of one type of NumPy's own."""
    return arrays[0].dtype.kind == "f" and all(array.dtype == arrays[0].dtype for array in arrays)


def _ufunc(node: NodeProto, inputs: Sequence[np.ndarray], constants: Constants, out: np.ndarray) -> Call | None:
    function = _UFUNCS[node.op_type]
    return partial(function, *inputs, out=out) if len(inputs) == function.nin and _is_plain(*inputs, out) else None


def _float_ufunc(node: NodeProto, inputs: Sequence[np.ndarray], constants: Constants, out: np.ndarray) -> Call | None:
    return partial(_FLOAT_UFUNCS[node.op_type], *inputs, out=out) if _is_float(*inputs, out) else None


def _power(node: NodeProto, inputs: Sequence[np.ndarray], constants: Constants, out: np.ndarray) -> Call | None:
    base, exponent = inputs
    if not _is_float(base, out):
        return None
    value = constants.get(node.input[1])
    if value is not None and value.size == 1 and value.reshape(()) == 2:
        return partial(np.multiply, base, base, out=out) if base.shape == out.shape else None
    if value is not None:
        return partial(np.power, base, value.astype(base.dtype), out=out)
    return partial(np.power, base, exponent, out=out) if exponent.dtype == base.dtype else None


def _reciprocal(node: NodeProto, inputs: Sequence[np.ndarray], constants: Constants, out: np.ndarray) -> Call | None:
    return partial(np.divide, out.dtype.type(1), inputs[0], out=out) if out.dtype.kind == "f" else None


def _erf(node: NodeProto, inputs: Sequence[np.ndarray], constants: Constants, out: np.ndarray) -> Call | None:
    from scipy.special import erf

    return partial(erf, inputs[0], out=out)


def _relu(node: NodeProto, inputs: Sequence[np.ndarray], constants: Constants, out: np.ndarray) -> Call | None:
    return partial(np.maximum, inputs[0], out.dtype.type(0), out=out)


def _parametric_relu(node: NodeProto, inputs: Sequence[np.ndarray], constants: Constants, out: np.ndarray) -> Call:
    """max(x, 0) + slope · min(x, 0)."""
    x, slope = inputs
    zero, below = out.dtype.type(0), np.empty_like(out)
    return in_turn(
        [
            partial(np.minimum, x, zero, out=below),
            partial(np.multiply, below, slope, out=below),
            partial(np.maximum, x, zero, out=out),
            partial(np.add, out, below, out=out),
        ]
    )


def _clip(node: NodeProto, inputs: Sequence[np.ndarray], constants: Constants, out: np.ndarray) -> Call | None:
    bounds = [known(node, constants, 1, "min"), known(node, constants, 2, "max")]
    low, high = (None if bound is None else bound.astype(out.dtype) for bound in bounds)
    return partial(np.clip, inputs[0], low, high, out=out) if low is not None or high is not None else None


def _cast(node: NodeProto, inputs: Sequence[np.ndarray], constants: Constants, out: np.ndarray) -> Call | None:
    """Between C's own types, where a float is cut towards zero, or between floats of any size."""
    x = inputs[0]
    known = _is_plain(x, out) or {x.dtype, out.dtype} <= {np.dtype(np.float32), np.dtype(ml_dtypes.bfloat16)}
    return partial(np.copyto, out, x, casting="unsafe") if known else None


def _where(node: NodeProto, inputs: Sequence[np.ndarray], constants: Constants, out: np.ndarray) -> Call | None:
    condition, yes, no = (np.broadcast_to(array, out.shape) for array in inputs)
    return in_turn([partial(np.copyto, out, no), partial(np.copyto, out, yes, where=condition)])


def _batch_normalisation(
    node: NodeProto, inputs: Sequence[np.ndarray], constants: Constants, out: np.ndarray
) -> Call | None:
    """By statistics that do not change: a factor and an offset for each channel."""
    if attributes(node).get("training_mode", 0) or not attributes(node).get("spatial", 1):
        return None
    found = [known(node, constants, 1 + i, name) for i, name in enumerate(("scale", "offset", "mean", "variance"))]
    scale, offset, mean, variance = (np.asarray(v, np.float64) for v in found)
    factor = scale / np.sqrt(variance + attributes(node).get("epsilon", 1e-5))
    shape = (-1, *(1 for _ in out.shape[2:]))
    by, plus = (value.astype(out.dtype).reshape(shape) for value in (factor, offset - mean * factor))
    return in_turn([partial(np.multiply, inputs[0], by, out=out), partial(np.add, out, plus, out=out)])


def _reduce(node: NodeProto, inputs: Sequence[np.ndarray], constants: Constants, out: np.ndarray) -> Call | None:
    x, given = inputs[0], attributes(node)
    if node.op_type == "ReduceMean" and x.dtype.kind != "f":
        return None
    axes = known(node, constants, 1, "axes")
    if axes is None or not axes.size:
        if given.get("noop_with_empty_axes", 0):
            return partial(np.copyto, out, x)
        axes = np.arange(x.ndim)
    if node.op_type == "ReduceMean" and (call := _mean_of_rows(x, axes.tolist(), out)) is not None:
        return call
    return _reduced(_REDUCTIONS[node.op_type], x, axes.tolist(), out)


def _norm(node: NodeProto, inputs: Sequence[np.ndarray], constants: Constants, out: np.ndarray) -> Call | None:
    """ReduceL1, ReduceL2 and their like: a function of each element, the sum, a function of the sum."""
    x = inputs[0]
    if not _is_float(x, out):
        return None
    each, after = _NORMS[node.op_type]
    summed = NodeProto()
    summed.CopyFrom(node)
    summed.op_type = "ReduceSum"
    elements = np.empty_like(x)
    before = partial(np.multiply, x, x, out=elements) if each is None else partial(each, x, out=elements)
    total = _reduce(summed, [elements], constants, out)
    axes = known(node, constants, 1, "axes")
    if total is None or (attributes(node).get("noop_with_empty_axes", 0) and (axes is None or not axes.size)):
        return None
    return in_turn([before, total] if after is None else [before, total, partial(after, out, out=out)])


_NORMS: Mapping[str, tuple[np.ufunc | None, np.ufunc | None]] = {
    "ReduceL1": (np.abs, None), "ReduceL2": (None, np.sqrt), "ReduceSumSquare": (None, None),
}  # fmt: skip
"""What is added, where it is not the square, and what is done to the sum."""


def _along_axis(node: NodeProto, inputs: Sequence[np.ndarray], constants: Constants, out: np.ndarray) -> Call | None:
    """Softmax and LogSoftmax over any one axis."""
    x, axis = inputs[0], attributes(node).get("axis", -1)
    if not _is_float(x, out):
        return None
    exponentials = np.empty_like(x)

    def call() -> None:
        np.subtract(x, x.max(axis=axis, keepdims=True), out=out)
        np.exp(out, out=exponentials)
        total = exponentials.sum(axis=axis, keepdims=True)
        if node.op_type == "Softmax":
            np.divide(exponentials, total, out=out)
        else:
            np.subtract(out, np.log(total), out=out)

    return call if x.size else None


def _softplus(node: NodeProto, inputs: Sequence[np.ndarray], constants: Constants, out: np.ndarray) -> Call | None:
    """log(1 + exp(x))."""
    return partial(np.logaddexp, inputs[0], out.dtype.type(0), out=out) if _is_float(inputs[0], out) else None


def _modulo(node: NodeProto, inputs: Sequence[np.ndarray], constants: Constants, out: np.ndarray) -> Call | None:
    """With the sign of the divisor, or, as C's fmod has it, of the dividend."""
    if not _is_plain(*inputs, out):
        return None
    return partial(np.fmod if attributes(node).get("fmod", 0) else np.mod, *inputs, out=out)


def _global_pool(node: NodeProto, inputs: Sequence[np.ndarray], constants: Constants, out: np.ndarray) -> Call | None:
    x, axes = inputs[0], range(2, inputs[0].ndim)
    if node.op_type == "GlobalAveragePool" and (call := _mean_of_rows(x, axes, out)) is not None:
        return call
    return _reduced(np.max if node.op_type == "GlobalMaxPool" else np.mean, x, axes, out)


def _mean_of_rows(x: np.ndarray, axes: Sequence[int], out: np.ndarray) -> Call | None:
    """Over axes at the end that have few elements together, else None.

    ``einsum`` adds in turn, and takes a quarter of the time that ``mean`` takes for short rows.
    """
    kept = x.ndim - len(axes)
    size = math.prod(x.shape[kept:])
    if x.dtype != np.float32 or sorted(axis % x.ndim for axis in axes) != list(range(kept, x.ndim)):
        return None
    if not 0 < size <= _SHORT:
        return None
    sums = out.reshape(-1)
    add = partial(np.einsum, "ij->i", x.reshape(-1, size), out=sums)
    return in_turn([add, partial(np.multiply, sums, np.float32(1.0 / size), out=sums)])


def _reduced(function: Callable[..., Any], x: np.ndarray, axes: Sequence[int], out: np.ndarray) -> Call | None:
    """A reduction; axes at the end are taken as one, over which NumPy sums in pairs. None if these are empty."""
    reduced = sorted(axis % x.ndim for axis in axes)
    kept, size = x.ndim - len(reduced), math.prod(x.shape[axis] for axis in reduced)
    if not size:
        return None
    if reduced == list(range(kept, x.ndim)):
        return partial(function, x.reshape(*x.shape[:kept], size), axis=-1, out=out.reshape(x.shape[:kept]))
    shape = tuple(size for axis, size in enumerate(x.shape) if axis not in reduced)
    return partial(function, x, axis=tuple(reduced), out=out.reshape(shape))


ARITHMETIC: Mapping[str, Maker] = {
    **dict.fromkeys(_UFUNCS, _ufunc),
    **dict.fromkeys(_FLOAT_UFUNCS, _float_ufunc),
    **dict.fromkeys(_REDUCTIONS, _reduce),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool"), _global_pool),
    **dict.fromkeys(_NORMS, _norm),
    **dict.fromkeys(("Softmax", "LogSoftmax"), _along_axis),
    "Softplus": _softplus,
    "Mod": _modulo,
    "Pow": _power,
    "Reciprocal": _reciprocal,
    "Erf": _erf,
    "Relu": _relu,
    "PRelu": _parametric_relu,
    "Clip": _clip,
    "Cast": _cast,
    "Where": _where,
    "BatchNormalization": _batch_normalisation,
}
