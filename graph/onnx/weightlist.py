"""Which inputs of a model are weights left out: a list in its metadata."""

from __future__ import annotations

import json
from collections.abc import Sequence

from onnx import ModelProto, StringStringEntryProto

from fettle.graph.errors import InvalidGraph

_KEY = "fettle.weights"
"""Metadata of a model without weights: a JSON list of the graph inputs that stand for constants."""


def weight_names(model: ModelProto) -> tuple[str, ...]:
    """Graph inputs that stand for constants, as the model's metadata lists them.

    Raises:
        InvalidGraph: the metadata is malformed or names no graph input.
    """
    text = next((entry.value for entry in model.metadata_props if entry.key == _KEY), "[]")
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidGraph(f"metadata {_KEY} is not a JSON list of input names")
    inputs = {value.name for value in model.graph.input}
    initializers = {tensor.name for tensor in model.graph.initializer}
    for name in names:
        if name not in inputs and name not in initializers:
            raise InvalidGraph(f"metadata {_KEY} names {name!r}, which is no input of the model")
    return tuple(name for name in names if name in inputs)


def list_weights(model: ModelProto, names: Sequence[str]) -> None:
    """Replace the list in the model's metadata, in place; an empty one is not written."""
    kept = [entry for entry in model.metadata_props if entry.key != _KEY]
    if names:
        kept.append(StringStringEntryProto(key=_KEY, value=json.dumps(list(names))))
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
