"""Nodes that no kernel is made for, as NumPy calls on fixed arrays: what lies between the kernels of a model.

ONNX's reference evaluator takes tens of microseconds for a node, however small. The operators that move or rotate
elements are done here instead; whatever is not known here is left to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from onnx import NodeProto, helper

from fettle import arithmetic
from fettle.graph.onnx.chains import VIEWS

Call = Callable[[], object]
"""Writes the result into an array that was given before."""


def is_view(node: NodeProto, source: tuple[int, ...]) -> bool:
    """Whether the result has the elements of the first input, of this shape, in their order."""
    if node.domain:
        return False
    if node.op_type == "Transpose":
        moved = [axis for axis in _permutation(node, len(source)) if source[axis] != 1]
        return moved == sorted(moved)
    return node.op_type in VIEWS


def prepare(
    node: NodeProto, inputs: Sequence[np.ndarray | None], constants: Mapping[str, np.ndarray], out: np.ndarray
) -> Call | None:
    """A call that computes a node's only output from arrays that stay where they are; None for an unknown operator.

    Args:
        inputs: arrays in the node's order, None for those it leaves out.
        constants: values that never change, by name.
        out: the array for the result.
    """
    make = None if node.domain else _MAKERS.get(node.op_type)
    return make(node, inputs, constants, out) if make is not None else None


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _permutation(node: NodeProto, rank: int) -> Sequence[int]:
    found: Sequence[int] = _attributes(node).get("perm", range(rank)[::-1])
    return found


def _transpose(
    node: NodeProto, inputs: Sequence[np.ndarray], constants: Mapping[str, np.ndarray], out: np.ndarray
) -> Call:
    return partial(np.copyto, out, inputs[0].transpose(_permutation(node, inputs[0].ndim)))


def _expand(
    node: NodeProto, inputs: Sequence[np.ndarray], constants: Mapping[str, np.ndarray], out: np.ndarray
) -> Call:
    return partial(np.copyto, out, np.broadcast_to(inputs[0], out.shape))


def _concat(
    node: NodeProto, inputs: Sequence[np.ndarray], constants: Mapping[str, np.ndarray], out: np.ndarray
) -> Call:
    return partial(np.concatenate, inputs, axis=_attributes(node)["axis"], out=out)


def _gather(
    node: NodeProto, inputs: Sequence[np.ndarray], constants: Mapping[str, np.ndarray], out: np.ndarray
) -> Call:
    return partial(np.take, inputs[0], inputs[1], axis=_attributes(node).get("axis", 0), out=out)


def _slice(
    node: NodeProto, inputs: Sequence[np.ndarray], constants: Mapping[str, np.ndarray], out: np.ndarray
) -> Call | None:
    """Slices whose bounds are constants: NumPy clamps and counts from the end as ONNX does."""
    if any(name and name not in constants for name in node.input[1:]):
        return None
    starts, ends, *rest = (constants[name].tolist() if name else [] for name in node.input[1:])
    axes, steps = [*rest, [], []][:2]
    where = [slice(None)] * inputs[0].ndim
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        where[axes[number] if axes else number] = slice(start, end, steps[number] if steps else 1)
    source = inputs[0][tuple(where)]
    return partial(np.copyto, out, source) if source.shape == out.shape else None


def _rotary(
    node: NodeProto, inputs: Sequence[np.ndarray | None], constants: Mapping[str, np.ndarray], out: np.ndarray
) -> Call | None:
    """Pairs of elements (a, b) turn by the angle of their position: (a·cos − b·sin, a·sin + b·cos).

    x is ``[batch, heads, sequence, size]``, the tables ``[positions, size / 2]``, the positions
    ``[batch, sequence]``. Other forms are left to the reference evaluator.
    """
    x, cos, sin, *rest = inputs
    positions = rest[0] if rest else None
    attributes = _attributes(node)
    whole = not attributes.get("rotary_embedding_dim", 0)
    if x is None or cos is None or sin is None or positions is None or x.ndim != 4 or not whole or x.shape[3] % 2:
        return None
    half = x.shape[3] // 2
    first, second = slice(0, half), slice(half, None)
    if attributes.get("interleaved", 0):
        first, second = slice(0, None, 2), slice(1, None, 2)
    (a, b), (out_a, out_b) = ((array[..., first], array[..., second]) for array in (x, out))
    c, s = np.empty((2, *positions.shape, half), x.dtype)
    product = np.empty(a.shape, x.dtype)

    def call() -> None:
        np.take(cos, positions, axis=0, out=c)
        np.take(sin, positions, axis=0, out=s)
        np.multiply(a, c[:, None], out=out_a)
        np.multiply(b, s[:, None], out=product)
        np.subtract(out_a, product, out=out_a)
        np.multiply(a, s[:, None], out=out_b)
        np.multiply(b, c[:, None], out=product)
        np.add(out_b, product, out=out_b)

    return call


_MAKERS: Mapping[str, Callable[..., Call | None]] = {
    "Transpose": _transpose,
    "Expand": _expand,
    "Concat": _concat,
    "Gather": _gather,
    "Slice": _slice,
    "RotaryEmbedding": _rotary,
    **arithmetic.MAKERS,
}
