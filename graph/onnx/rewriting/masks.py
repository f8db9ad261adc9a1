"""Masks of attention in one form: a tensor that is added to the logits."""

from __future__ import annotations

import math

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper

from fettle.graph.onnx.patterns.wiring import Wiring
from fettle.graph.onnx.protos import integer
from fettle.graph.onnx.rewriting.workbench import Workbench
from fettle.graph.onnx.shapes import LARGEST_MASK, TensorType

_AXES = 4
"""Batch, heads, positions, elements."""

HIDDEN = -1e30
"""Below, a number in place of a logit, or added to it, hides its key: exp of it is 0 in float32 beside any other's."""


def add_masks(graph: GraphProto, bench: Workbench, types: dict[str, TensorType]) -> None:
    """``softmax(where(seen, logits, -inf))`` as ``softmax(logits + where(seen, 0, -inf))``, in place.

    Where the number is finite, adding a logit to it is a matter of rounding: it stays what it was.
    """
    wiring, masks = Wiring(graph), dict[tuple[str, int, float], str]()
    nodes: list[NodeProto] = []
    for node in graph.node:
        at = _hidden_side(node, wiring, bench, types)
        if at is None:
            nodes.append(node)
            continue
        seen, *sides = node.input
        value = bench.value(sides[at])
        assert value is not None
        key = (seen, at, value.item())
        if key not in masks:
            nodes += _mask(key, node.name, bench, types, masks)
        nodes.append(helper.make_node("Add", [sides[1 - at], masks[key]], node.output, name=node.name))
    del graph.node[:]
    graph.node.extend(nodes)


def add_causal_mask(node: NodeProto, bench: Workbench, types: dict[str, TensorType]) -> None:
    """Write down the causal mask of an Attention of fewer or more queries than keys, in place.

    The first query is at the first key there, where workloads have the last query at the last key.
    """
    q, k = (types.get(name) for name in node.input[:2])
    alone = not any(node.input[3:]) and integer(node, "is_causal", 0)
    if not alone or q is None or k is None or not q.shape or not k.shape or q.element != TensorProto.FLOAT:
        return
    extents = (q.shape[-2], k.shape[-2])
    if len(q.shape) != _AXES or extents[0] == extents[1] or math.prod(extents) > LARGEST_MASK:
        return
    hidden = np.where(np.tri(*extents, dtype=np.bool_), np.float32(0.0), np.float32(-np.inf))
    mask = bench.constant(f"{node.name}_causal", hidden)
    types[mask] = TensorType(TensorProto.FLOAT, extents)
    del node.input[3:]
    node.input.append(mask)
    kept = [attribute for attribute in node.attribute if attribute.name != "is_causal"]
    del node.attribute[:]
    node.attribute.extend(kept)


def _hidden_side(node: NodeProto, wiring: Wiring, bench: Workbench, types: dict[str, TensorType]) -> int | None:
    """Which of a node's two choices is a number that hides, the other one being logits of the result's shape."""
    if node.op_type != "Where" or node.domain or wiring.only_reader(node.output[0], "Softmax") is None:
        return None
    seen, *sides = node.input
    for at, name in enumerate(sides):
        value = bench.value(name)
        if value is not None and value.size == 1 and value.dtype == np.float32 and value.item() < HIDDEN:
            logits, result, mask = (types.get(other) for other in (sides[1 - at], node.output[0], seen))
            known = None not in (logits, mask) and mask is not None and mask.shape is not None
            return at if known and logits == result else None
    return None


def _mask(
    key: tuple[str, int, float],
    stem: str,
    bench: Workbench,
    types: dict[str, TensorType],
    masks: dict[tuple[str, int, float], str],
) -> list[NodeProto]:
    """What makes a mask, which a constant needs no node for."""
    seen, at, hidden = key
    choices = [np.float32(hidden), np.float32(0.0)][:: -1 if at else 1]
    known = bench.value(seen)
    if known is not None and known.size <= LARGEST_MASK:
        masks[key] = bench.constant(f"{stem}_mask", np.where(known, choices[0], choices[1]))
        types[masks[key]] = TensorType(TensorProto.FLOAT, known.shape)
        return []
    masks[key] = bench.fresh(f"{stem}_mask")
    types[masks[key]] = TensorType(TensorProto.FLOAT, types[seen].shape)
    names = [bench.constant(f"{stem}_choice", choice) for choice in choices]
    types |= dict.fromkeys(names, TensorType(TensorProto.FLOAT, ()))
    return [helper.make_node("Where", [seen, *names], [masks[key]], name=f"{stem}/mask")]
