"""Products that no kernel is made for, in NumPy: of broadcast batches, of float64, of whole numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from onnx import NodeProto

from fettle.glue.calls import Call, Constants, Maker, attributes


def _matmul(node: NodeProto, inputs: Sequence[np.ndarray], constants: Constants, out: np.ndarray) -> Call | None:
    if any(array.dtype != out.dtype for array in inputs) or out.dtype not in _TYPES or not out.ndim:
        return None
    return partial(np.matmul, *inputs, out=out)


def _einsum(node: NodeProto, inputs: Sequence[np.ndarray], constants: Constants, out: np.ndarray) -> Call | None:
    """The order of the products is chosen beforehand."""
    if any(array.dtype != out.dtype for array in inputs) or out.dtype not in _TYPES:
        return None
    equation = attributes(node)["equation"].decode().replace(" ", "")
    path, _ = np.einsum_path(equation, *inputs, optimize="greedy")
    return partial(np.einsum, equation, *inputs, out=out, optimize=path)


_TYPES = (np.float32, np.float64, np.int32, np.int64)

PRODUCTS: Mapping[str, Maker] = {"MatMul": _matmul, "Einsum": _einsum}
