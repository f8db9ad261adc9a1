"""Rewrites that need the types of tensors: fewer ways to write the same thing, before patterns are looked for."""

from __future__ import annotations

import math

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from fettle.graph.onnx.patterns.factors import sink_factors
from fettle.graph.onnx.protos import constant_names, integer, reads, subgraphs
from fettle.graph.onnx.rewriting.einsum import as_product
from fettle.graph.onnx.rewriting.masks import add_causal_mask, add_masks
from fettle.graph.onnx.rewriting.normalisations import normalised
from fettle.graph.onnx.rewriting.workbench import Workbench
from fettle.graph.onnx.shapes import TensorType
from fettle.graph.onnx.weightlist import weight_names

_KEYS_TRANSPOSED = [0, 2, 3, 1]
_VALUES = {"seen": 0.0, "hidden": -np.inf}

_NORMALISED = ("Softmax", "LogSoftmax", "Hardmax")
_ONE_AXIS_SINCE = 13
"""The opset whose Softmax and its like are over one axis."""


def tidy(model: ModelProto, types: dict[str, TensorType]) -> None:
    """Rewrite a model in place, by standard operators only, and add the types of new tensors.

    * Identity, and Cast to the type a tensor has, are passed by.
    * Truth-valued masks of Attention are added instead: 0 where a key is seen, -inf where not; and so are those that
      choose logits of a Softmax. Causal masks that begin at the first key, where not all are queries, are written down.
    * Einsum of two tensors is MatMul between Transpose and Reshape.
    * Keys that go from ``[batch, position, head, element]`` to the right of a product at once do so in two steps, so
      that they are at hand as ``[batch, head, position, element]``.
    * Factors of queries and keys follow the nodes that move their elements.
    * Normalisations are those that kernels know (:func:`normalised`).
    * Softmax and its like are over the last axis, where they are over several (see :func:`_flat`).
    """
    graph, bench = model.graph, Workbench(model)
    _pass_by(graph, types)
    add_masks(graph, bench, types)
    products = [made for node in graph.node for made in as_product(node, bench, types)]
    constants = constant_names(graph, weight_names(model))
    nodes: list[NodeProto] = []
    masks: dict[str, str] = {}
    for node in products:
        _flat_in_bodies(node, bench)
        if node.op_type == "Attention" and not node.domain:
            add_causal_mask(node, bench, types)
            nodes += [*_additive(node, bench, types, masks), node]
        elif node.op_type == "Transpose" and not node.domain:
            nodes += [*_in_two_steps(node, bench, types), node]
        elif node.op_type in _NORMALISED and not node.domain and bench.opset < _ONE_AXIS_SINCE:
            nodes += _flat(node, bench, types)
        else:
            nodes += normalised(node, bench, types, constants)
    del graph.node[:]
    graph.node.extend(nodes)
    sink_factors(graph, bench, types)


def _pass_by(graph: GraphProto, types: dict[str, TensorType]) -> None:
    kept_names = {value.name for value in graph.output}
    kept_names |= {name for node in graph.node if any(subgraphs(node)) for name in reads(node)}
    source: dict[str, str] = {}
    kept = []
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = source.get(name, name)
        before, after = (types.get(names[0]) if names else None for names in (node.input, node.output))
        same = before is not None and after is not None and before.element == after.element
        copies = not node.domain and (node.op_type == "Identity" or (node.op_type == "Cast" and same))
        if copies and len(node.output) == 1 and node.output[0] not in kept_names and before is not None:
            source[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


def _additive(
    node: NodeProto, bench: Workbench, types: dict[str, TensorType], masks: dict[str, str]
) -> list[NodeProto]:
    """The node that makes an additive mask of a truth-valued one, unless another Attention has it already."""
    mask = node.input[3] if len(node.input) > 3 else ""
    kind = types.get(mask)
    if kind is None or kind.element != TensorProto.BOOL or types[node.input[0]].element != TensorProto.FLOAT:
        return []
    made = []
    if mask not in masks:
        seen, hidden = (bench.constant(f"{mask}_{k}", np.array(v, np.float32)) for k, v in _VALUES.items())
        masks[mask] = bench.fresh(f"{mask}_additive")
        types |= {name: TensorType(TensorProto.FLOAT, ()) for name in (seen, hidden)}
        types[masks[mask]] = TensorType(TensorProto.FLOAT, kind.shape)
        made = [helper.make_node("Where", [mask, seen, hidden], [masks[mask]], name=f"{node.name}/mask")]
    node.input[3] = masks[mask]
    return made


def _in_two_steps(node: NodeProto, bench: Workbench, types: dict[str, TensorType]) -> list[NodeProto]:
    """The first of two transpositions; the node becomes the second."""
    (perm,) = [list(a.ints) for a in node.attribute if a.name == "perm"] or [[]]
    kind = types.get(node.input[0])
    if perm != _KEYS_TRANSPOSED or kind is None or kind.shape is None:
        return []
    between = bench.fresh(f"{node.output[0]}_heads")
    batch, positions, heads, size = kind.shape
    types[between] = TensorType(kind.element, (batch, heads, positions, size))
    first = helper.make_node("Transpose", [node.input[0]], [between], name=f"{node.name}/heads", perm=[0, 2, 1, 3])
    second = helper.make_node("Transpose", [between], node.output, name=node.name, perm=[0, 1, 3, 2])
    node.CopyFrom(second)
    return [first]


def _flat_in_bodies(node: NodeProto, bench: Workbench) -> None:
    """:func:`_flat` for what is in bodies of control flow, at any depth; of their tensors no types are known."""
    for body in subgraphs(node):
        nodes: list[NodeProto] = []
        for inner in body.node:
            _flat_in_bodies(inner, bench)
            old = inner.op_type in _NORMALISED and not inner.domain and bench.opset < _ONE_AXIS_SINCE
            nodes += _flat(inner, bench, {}) if old else [inner]
        del body.node[:]
        body.node.extend(nodes)


def _flat(node: NodeProto, bench: Workbench, types: dict[str, TensorType]) -> list[NodeProto]:
    """Softmax, LogSoftmax or Hardmax of an opset before 13: over all axes from ``axis`` on, as if they were one.

    Flatten -> the node over the last axis -> Reshape, unless it is over the last axis anyway.
    """
    x, y, axis = node.input[0], node.output[0], integer(node, "axis", 1)
    kind = types.get(x)
    shape = None if kind is None else kind.shape
    alone = axis == -1 or (shape is not None and (axis == len(shape) - 1 or 0 in shape))
    flat, result = (x, y) if alone else (bench.fresh(f"{y}_{stem}") for stem in ("flat", "of_flat"))
    over_last = helper.make_node(node.op_type, [flat], [result], name=node.name, axis=-1)
    if alone:
        return [over_last]
    nodes = [helper.make_node("Flatten", [x], [flat], name=f"{node.name}/flat", axis=axis), over_last]
    if kind is None or shape is None:
        target = bench.fresh(f"{y}_shape")
        nodes.append(helper.make_node("Shape", [x], [target], name=f"{node.name}/shape"))
    else:
        target = bench.constant(f"{y}_shape", shape)
        rows = math.prod(shape[:axis])
        types |= dict.fromkeys((flat, result), TensorType(kind.element, (rows, math.prod(shape) // rows)))
    return [*nodes, helper.make_node("Reshape", [result, target], [y], name=f"{node.name}/whole")]
