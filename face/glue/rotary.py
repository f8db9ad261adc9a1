"""Rotary position embedding in NumPy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from onnx import NodeProto

from fettle.glue.calls import Call, Constants, Maker, attributes


def _rotary(node: NodeProto, inputs: Sequence[np.ndarray | None], constants: Constants, out: np.ndarray) -> Call | None:
    """Pairs of elements (a, b) turn by the angle of their position: (a·cos − b·sin, a·sin + b·cos).

    x is ``[batch, heads, sequence, size]``, the tables ``[positions, size / 2]``, the positions
    ``[batch, sequence]``. Other forms are left to the reference evaluator.
    """
    x, cos, sin, *rest = inputs
    positions = rest[0] if rest else None
    given = attributes(node)
    whole = not given.get("rotary_embedding_dim", 0)
    if x is None or cos is None or sin is None or positions is None or x.ndim != 4 or not whole or x.shape[3] % 2:
        return None
    half = x.shape[3] // 2
    first, second = slice(0, half), slice(half, None)
    if given.get("interleaved", 0):
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


ROTATIONS: Mapping[str, Maker] = {"RotaryEmbedding": _rotary}
