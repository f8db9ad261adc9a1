"""Moving elements between the kernels of a model: views, copies, slices, pads, blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from onnx import NodeProto

from fettle.glue.calls import Call, Constants, Maker, attributes, in_turn, known
from fettle.graph.onnx.patterns.chains import VIEWS


def is_view(node: NodeProto, source: tuple[int, ...]) -> bool:
    """Whether the result has the elements of the first input, of this shape, in their order."""
    if node.domain:
        return False
    if node.op_type == "Transpose":
        moved = [axis for axis in _permutation(node, len(source)) if source[axis] != 1]
        return moved == sorted(moved)
    return node.op_type in VIEWS


def _permutation(node: NodeProto, rank: int) -> Sequence[int]:
    found: Sequence[int] = attributes(node).get("perm", range(rank)[::-1])
    return found


def _transpose(node: NodeProto, inputs: Sequence[np.ndarray], constants: Constants, out: np.ndarray) -> Call:
    return partial(np.copyto, out, inputs[0].transpose(_permutation(node, inputs[0].ndim)))


def _expand(node: NodeProto, inputs: Sequence[np.ndarray], constants: Constants, out: np.ndarray) -> Call:
    return partial(np.copyto, out, np.broadcast_to(inputs[0], out.shape))


def _concat(node: NodeProto, inputs: Sequence[np.ndarray], constants: Constants, out: np.ndarray) -> Call:
    return partial(np.concatenate, inputs, axis=attributes(node)["axis"], out=out)


def _gather(node: NodeProto, inputs: Sequence[np.ndarray], constants: Constants, out: np.ndarray) -> Call:
    return partial(np.take, inputs[0], inputs[1], axis=attributes(node).get("axis", 0), out=out)


def _slice(node: NodeProto, inputs: Sequence[np.ndarray], constants: Constants, out: np.ndarray) -> Call | None:
    """Slices whose bounds are constants: NumPy clamps and counts from the end as ONNX does."""
    names = ("starts", "ends", "axes", "steps")
    found = [known(node, constants, index, name) for index, name in enumerate(names, 1)]
    starts, ends, axes, steps = ([] if value is None else value.tolist() for value in found)
    where = [slice(None)] * inputs[0].ndim
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis, step = axes[number] if axes else number, steps[number] if steps else 1
        first = start if step > 0 else max(start, -inputs[0].shape[axis])  # backwards, ONNX begins inside
        where[axis] = slice(first, end, step)
    source = inputs[0][tuple(where)]
    return partial(np.copyto, out, source) if source.shape == out.shape else None


def split(node: NodeProto, inputs: Sequence[np.ndarray | None], outs: Sequence[np.ndarray]) -> Call | None:
    """Parts in order; how long they are is known from the results."""
    x, axis = inputs[0], attributes(node).get("axis", 0)
    if x is None or sum(out.shape[axis] for out in outs) != x.shape[axis]:
        return None
    ends = np.cumsum([out.shape[axis] for out in outs])[:-1]
    parts = np.split(x, ends, axis=axis)
    return in_turn([partial(np.copyto, out, part) for out, part in zip(outs, parts, strict=True)])


def _pad(node: NodeProto, inputs: Sequence[np.ndarray], constants: Constants, out: np.ndarray) -> Call | None:
    """Pads that are constants; negative ones cut."""
    x, given = inputs[0], attributes(node)
    pads, value, axes = (known(node, constants, i, name) for i, name in enumerate(("pads", "value", "axes"), 1))
    mode = given.get("mode", b"constant").decode()
    if pads is None:
        return None
    widths = [(0, 0)] * x.ndim
    count = len(pads) // 2
    for number, axis in enumerate(range(x.ndim) if axes is None else axes.tolist()):
        widths[axis] = (int(pads[number]), int(pads[count + number]))
    x = x[
        tuple(slice(max(-first, 0), size + min(last, 0)) for (first, last), size in zip(widths, x.shape, strict=True))
    ]
    widths = [(max(first, 0), max(last, 0)) for first, last in widths]
    if mode != "constant":
        return lambda: np.copyto(out, np.pad(x, widths, mode))
    inside = out[tuple(slice(first, first + size) for (first, _), size in zip(widths, x.shape, strict=True))]
    return in_turn([partial(out.fill, 0 if value is None else value.item()), partial(np.copyto, inside, x)])


def _depth_to_space(node: NodeProto, inputs: Sequence[np.ndarray], constants: Constants, out: np.ndarray) -> Call:
    """Channels become blocks of the image: ``[n, c·b², h, w]`` to ``[n, c, h·b, w·b]``.

    Columns of all blocks are copied in turn: NumPy's innermost loop is then over a row of the image, not over a block.
    """
    (n, c, h, w), block = inputs[0].shape, attributes(node)["blocksize"]
    depth = c // block**2
    if attributes(node).get("mode", b"DCR") == b"DCR":
        blocks = inputs[0].reshape(n, block, block, depth, h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        blocks = inputs[0].reshape(n, depth, block, block, h, w).transpose(0, 1, 4, 2, 5, 3)
    target = out.reshape(blocks.shape)
    return in_turn([partial(np.copyto, target[..., column], blocks[..., column]) for column in range(block)])


def _space_to_depth(node: NodeProto, inputs: Sequence[np.ndarray], constants: Constants, out: np.ndarray) -> Call:
    """The way back, block positions first: ``[n, c, h·b, w·b]`` to ``[n, b²·c, h, w]``."""
    (n, c, h, w), block = inputs[0].shape, attributes(node)["blocksize"]
    blocks = inputs[0].reshape(n, c, h // block, block, w // block, block).transpose(0, 3, 5, 1, 2, 4)
    return partial(np.copyto, out.reshape(blocks.shape), blocks)


MOVES: Mapping[str, Maker] = {
    "Transpose": _transpose,
    "Expand": _expand,
    "Concat": _concat,
    "Gather": _gather,
    "Slice": _slice,
    "Pad": _pad,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
}
