"""Constant factors of queries and keys go to where the product reads them, past what only moves elements.

``q_scaled = q · 0.125``, then heads are split, transposed or grouped, then comes ``q_scaled · kᵀ``: the factor belongs
to the attention as its ``scale``, which is seen only where both are next to each other.
"""

from __future__ import annotations

import math
from collections.abc import Collection

from onnx import GraphProto, NodeProto, TensorProto

from fettle.graph.onnx.patterns.chains import VIEWS
from fettle.graph.onnx.patterns.wiring import Wiring
from fettle.graph.onnx.rewriting.workbench import Workbench
from fettle.graph.onnx.shapes import TensorType

_MOVES = (*VIEWS, "Transpose")


def sink_factors(graph: GraphProto, bench: Workbench, types: dict[str, TensorType]) -> None:
    """Swap factors of queries and keys with the moves after them, in place, and keep the types up to date."""
    wiring = Wiring(graph)
    scalars = {
        tensor.name: len(tensor.dims)
        for tensor in graph.initializer
        if tensor.data_type == TensorProto.FLOAT and math.prod(tensor.dims) == 1
    }
    sunk: dict[str, NodeProto] = {}  # by the name of the move that each now follows
    for node in graph.node:
        at = _factored(node, scalars)
        if at is None:
            continue
        moves, rank = _moves(node, wiring), scalars[node.input[1 - at]]
        if not moves or not _makes_logits(moves[-1].output[0], wiring):
            continue
        before, after = types.get(node.input[at]), types.get(moves[-1].output[0])
        if before is None or after is None or before.shape is None or after.shape is None:
            continue
        if before != types.get(node.output[0]) or max(rank, 1) > len(after.shape):
            continue
        del types[node.output[0]]
        moves[0].input[0] = node.input[at]
        node.output[0] = moves[-1].output[0]
        node.input[at] = moves[-1].output[0] = bench.fresh(f"{node.output[0]}_unscaled")
        types[node.input[at]] = after
        sunk[moves[-1].name] = node
    moved = {node.name for node in sunk.values()}
    nodes = []
    for node in graph.node:
        if node.name not in moved:
            nodes += [node, sunk[node.name]] if node.name in sunk else [node]
    del graph.node[:]
    graph.node.extend(nodes)


def _factored(node: NodeProto, scalars: Collection[str]) -> int | None:
    """Which operand of a node is multiplied with, or divided by, the other one, a number."""
    if node.domain or node.op_type not in ("Mul", "Div"):
        return None
    if node.input[1] in scalars:
        return 0
    return 1 if node.op_type == "Mul" and node.input[0] in scalars else None


def _moves(node: NodeProto, wiring: Wiring) -> list[NodeProto]:
    """The nodes after one that only move elements, each the only reader of what is before it."""
    found: list[NodeProto] = []
    name = node.output[0]
    while (reader := wiring.only_reader(name, *_MOVES)) is not None and reader.input[0] == name:
        found.append(reader)
        name = reader.output[0]
    return found


def _makes_logits(name: str, wiring: Wiring) -> bool:
    """Whether a tensor is read by an attention alone, as its queries or keys."""
    reader = wiring.only_reader(name, "MatMul", "Attention")
    if reader is None or reader.op_type == "Attention":
        return reader is not None and name in reader.input[:2] and name not in reader.input[2:]
    while reader is not None and reader.op_type != "Softmax":
        reader = wiring.only_reader(reader.output[0], "Add", "Mul", "Div", "Softmax")
    return reader is not None
