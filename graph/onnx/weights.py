"""Weights of a model: made up from a seed where it has none, read from external data where they lie outside."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
from onnx import (
    ModelProto,
    NodeProto,
    TensorProto,
    helper,
    numpy_helper,
)
from onnx.external_data_helper import uses_external_data

from fettle.graph.data import keyed_rng
from fettle.graph.errors import InvalidGraph, Unsupported
from fettle.graph.onnx.load import load, read_external
from fettle.graph.onnx.nbits import NBits, is_nbits
from fettle.graph.onnx.protos import integer, tensors
from fettle.graph.onnx.rewriting.normalise import normalise
from fettle.graph.onnx.shapes import is_small, is_whole_row
from fettle.graph.onnx.weightlist import list_weights, weight_names


def fill_weights(model: ModelProto, seed: int) -> ModelProto:
    """A copy whose inputs listed under ``fettle.weights`` are initializers, drawn from ``seed``.

    Weights are bound before anything runs, because runtimes prepack initializers only (onnxruntime ignores
    accuracy level 4 when B is an input). Scales keep results O(1): matrices have deviation 1/√K, quantised
    ones after dequantisation; normalisation scales lie around 1.

    Raises:
        InvalidGraph: a weight has no fixed shape.
        Unsupported: a weight is neither float32, float16, uint8 nor int8.
    """
    names = weight_names(model)
    result = ModelProto()
    result.CopyFrom(model)
    uses = _uses(result)
    values = {value.name: value for value in result.graph.input}
    for name in names:
        kind = values[name].type.tensor_type
        if not all(dim.HasField("dim_value") for dim in kind.shape.dim):
            raise InvalidGraph(f"weight {name!r} has no fixed shape")
        shape = tuple(dim.dim_value for dim in kind.shape.dim)
        array = _draw(name, kind.elem_type, shape, uses.get(name), keyed_rng("fettle.weights", seed, name))
        result.graph.initializer.append(numpy_helper.from_array(array, name))
    free = [value for name, value in values.items() if name not in names]
    del result.graph.input[:]
    result.graph.input.extend(free)
    list_weights(result, ())
    return result


def _uses(model: ModelProto) -> dict[str, tuple[NodeProto, int]]:
    """The first node that reads a tensor, and as which input."""
    result: dict[str, tuple[NodeProto, int]] = {}
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            result.setdefault(name, (node, index))
    return result


def _draw(
    name: str, element: int, shape: tuple[int, ...], use: tuple[NodeProto, int] | None, rng: np.random.Generator
) -> np.ndarray:
    """Random values of a weight, such that results are O(1) as the first node that reads it uses it."""
    if element == TensorProto.UINT8:
        return rng.integers(0, 256, shape, np.uint8)
    if element == TensorProto.INT8:
        return rng.integers(-128, 128, shape, np.int8)
    if element not in (TensorProto.FLOAT, TensorProto.FLOAT16):
        raise Unsupported(f"weight {name!r} has element type {TensorProto.DataType.Name(element)}")
    dtype = helper.tensor_dtype_to_np_dtype(element)
    node, index = use or (NodeProto(), 0)
    if is_nbits(node) and index == 2:
        nbits = NBits.of(node)
        deviation = math.sqrt((4.0**nbits.bits - 1.0) / 12.0)
        drawn = (0.5 + rng.random(shape, np.float32)) / np.float32(deviation * math.sqrt(nbits.k))
    elif node.op_type.endswith(("RMSNormalization", "LayerNormalization")):
        drawn = 1.0 + 0.1 * rng.standard_normal(shape, np.float32)
    else:
        turned = node.op_type == "Transpose" or (node.op_type == "Gemm" and integer(node, "transB", 0))
        k = 1 if len(shape) < 2 else shape[-1 if turned else -2]
        drawn = rng.standard_normal(shape, np.float32) / np.float32(math.sqrt(max(k, 1)))
    return np.asarray(drawn, dtype)


def load_weights(model: ModelProto, folder: Path | None) -> ModelProto:
    """A copy with every external tensor in memory (see :func:`fettle.graph.onnx.load.read_external`)."""
    result = ModelProto()
    result.CopyFrom(model)
    for tensor in tensors(result):
        if uses_external_data(tensor):
            read_external(tensor, folder)
    return result


def without_weights(source: str | os.PathLike[str] | bytes) -> bytes:
    """A small model with the same workloads, to send instead of the weights.

    Large constants become graph inputs listed under ``fettle.weights``; small ones stay, since shapes follow
    from them, and so do rows of whole numbers, since it follows from them what rounds. :func:`fill_weights` is the way
    back, up to the values.

    Raises:
        InvalidGraph, NotFound, ResourceExhausted: as :func:`fettle.graph.onnx.importer.import_model`.
    """
    raw, folder = load(source)
    model = normalise(raw)
    names = list(weight_names(model))
    kept = []
    for tensor in model.graph.initializer:
        if is_small(tensor) or is_whole_row(tensor):
            kept.append(tensor)
            continue
        names.append(tensor.name)
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    list_weights(model, names)
    return load_weights(model, folder).SerializeToString()
