"""Models without their weights: what a client sends to a server, since tuning needs shapes, not values."""

from __future__ import annotations

import json
import os

from onnx import TensorProto, helper

from fettle.graph.onnx.load import load
from fettle.graph.onnx.protos import WEIGHTS_KEY
from fettle.graph.onnx.shapes import weight_names

_KEPT_ELEMENTS = 64
"""Small tensors stay: scalars become numbers in expressions, shapes are needed to infer shapes."""

_STRIPPED = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.UINT8, TensorProto.INT8)


def without_weights(source: str | os.PathLike[str] | bytes) -> bytes:
    """The model's bytes with large initializers turned into inputs named in ``fettle.weights``.

    Raises:
        InvalidGraph, NotFound, ResourceExhausted: see :func:`fettle.graph.onnx.load.load`.
    """
    model, _ = load(source)
    graph = model.graph
    names = list(weight_names(model))
    inputs = {value.name for value in graph.input}
    kept = []
    for tensor in graph.initializer:
        size = 1
        for extent in tensor.dims:
            size *= extent
        if tensor.data_type not in _STRIPPED or size <= _KEPT_ELEMENTS:
            kept.append(tensor)
            continue
        names.append(tensor.name)
        if tensor.name not in inputs:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    del graph.initializer[:]
    graph.initializer.extend(kept)
    others = [entry for entry in model.metadata_props if entry.key != WEIGHTS_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(others)
    if names:
        model.metadata_props.add(key=WEIGHTS_KEY, value=json.dumps(names))
    return model.SerializeToString()
