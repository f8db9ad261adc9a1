"""onnxruntime's Attention, which projects to queries, keys and values itself, in terms of ONNX's operators.

``[q k v] = x · W + b`` for all heads side by side, then softmax attention; as its optimiser writes BERT.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from fettle.graph.onnx.protos import MICROSOFT, integer, number
from fettle.graph.onnx.shapes import TensorType

_INPUTS = 6
"""x, weight, bias, mask, past, attention_bias; those after them are for the past."""

_UNKNOWN = ("qkv_hidden_sizes", "do_rotary", "past_present_share_buffer")
"""Attributes that are not understood, unless they are 0."""


def expand_attention(model: ModelProto, types: Mapping[str, TensorType]) -> bool:
    """Replace nodes of onnxruntime's Attention whose shapes are known, in place; whether there were any."""
    graph, nodes, found = model.graph, [], False
    for node in graph.node:
        made = None
        if node.op_type == "Attention" and node.domain == MICROSOFT:
            made = _expanded(node, graph, types)
        found = found or made is not None
        nodes += [node] if made is None else made
    del graph.node[:]
    graph.node.extend(nodes)
    return found


def _expanded(node: NodeProto, graph: GraphProto, types: Mapping[str, TensorType]) -> list[NodeProto] | None:
    names = [*node.input, *[""] * _INPUTS]
    x, weight = (types.get(name) for name in names[:2])
    if not all(names[:3]) or any(names[4:]) or any(node.output[1:]) or not node.output:
        return None
    if any(a.name in _UNKNOWN and (a.i or a.ints) for a in node.attribute):
        return None
    if x is None or x.shape is None or weight is None or weight.shape is None or x.element != TensorProto.FLOAT:
        return None
    heads = integer(node, "num_heads")
    if len(x.shape) != 3 or len(weight.shape) != 2 or heads < 1 or weight.shape[1] % (3 * heads):
        return None
    batch, positions, _ = x.shape
    size = weight.shape[1] // (3 * heads)
    writer = _Writer(node, graph)
    mask = _mask(node, names[3], (batch, positions), types, writer)
    if mask is None:
        return None
    product = writer.add("Add", writer.add("MatMul", names[0], names[1]), names[2])
    packed = writer.add("Reshape", product, writer.constant(np.array([batch, positions, 3, heads, size])))
    q, k, v = (
        writer.add("Transpose", writer.add("Gather", packed, writer.constant(np.array(i)), axis=2), perm=[0, 2, 1, 3])
        for i in range(3)
    )
    scale = np.float32(number(node, "scale", 0.0) or 1.0 / math.sqrt(size))
    logits = writer.add("MatMul", q, writer.add("Transpose", k, perm=[0, 1, 3, 2]))
    logits = writer.add("Mul", logits, writer.constant(scale))
    for name in mask:
        logits = writer.add("Add", logits, name)
    result = writer.add("MatMul", writer.add("Softmax", logits, axis=-1), v)
    result = writer.add("Transpose", result, perm=[0, 2, 1, 3])
    result = writer.add("Reshape", result, writer.constant(np.array([batch, positions, heads * size])))
    writer.nodes[-1].output[0] = node.output[0]
    return writer.nodes


def _mask(
    node: NodeProto, name: str, extents: tuple[int, int], types: Mapping[str, TensorType], writer: _Writer
) -> list[str] | None:
    """What is added to the logits: nothing, or one tensor; None for a mask that is not understood."""
    batch, positions = extents
    hidden = np.float32(number(node, "mask_filter_value", -10000.0))
    causal = bool(integer(node, "unidirectional", 0))
    if not name:
        later = np.where(np.tri(positions, dtype=np.bool_), np.float32(0.0), np.finfo(np.float32).min)
        return [writer.constant(later[None, None])] if causal else []
    kind = types.get(name)
    if causal or kind is None or kind.element not in (TensorProto.INT32, TensorProto.INT64):
        return None
    if kind.shape == (batch,):  # lengths
        dtype = helper.tensor_dtype_to_np_dtype(kind.element)
        lengths = writer.add("Reshape", name, writer.constant(np.array([batch, 1, 1, 1])))
        seen = writer.add("Less", writer.constant(np.arange(positions, dtype=dtype)), lengths)
    elif kind.shape == (batch, positions):
        shaped = writer.add("Reshape", name, writer.constant(np.array([batch, 1, 1, positions])))
        seen = writer.add("Cast", shaped, to=TensorProto.BOOL)
    elif kind.shape == (batch, positions, positions):
        shaped = writer.add("Reshape", name, writer.constant(np.array([batch, 1, positions, positions])))
        seen = writer.add("Cast", shaped, to=TensorProto.BOOL)
    else:
        return None
    return [writer.add("Where", seen, writer.constant(np.float32(0.0)), writer.constant(hidden))]


class _Writer:
    """New nodes in the place of one, with names that begin like its own."""

    def __init__(self, node: NodeProto, graph: GraphProto) -> None:
        self.nodes: list[NodeProto] = []
        self._graph = graph
        self._names: Iterator[str] = (f"{node.name}/{number}" for number in range(1 << 30))

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """A node of the default domain; returns the name of its result."""
        name = next(self._names)
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def constant(self, value: np.ndarray | np.generic) -> str:
        """An initializer; returns its name."""
        name = next(self._names)
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name
