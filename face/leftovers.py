"""Nodes of a model that are left to ONNX's reference evaluator."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, helper

from fettle.graph.errors import InvalidGraph, Unsupported
from fettle.graph.graph import GraphNode
from fettle.graph.onnx.importer import Imported
from fettle.graph.onnx.protos import reads
from fettle.graph.onnx.reference import evaluator

Tensors = dict[str, np.ndarray]

Evaluation = Callable[[Tensors], Sequence[np.ndarray]]
"""Nodes run by the reference evaluator: all tensors by name -> the results. Raises InvalidGraph if they fail."""


def check_known(node: GraphNode, covered: Sequence[NodeProto]) -> None:
    """The reference evaluator runs nodes of the model, not what a pass made of them."""
    known = {name for inside in covered for name in (*reads(inside), *inside.output)}
    for name in (*node.outputs, *node.reads):
        if name not in known:
            raise Unsupported(f"node {node.name!r} has no kernel, and the model has no tensor {name!r}")


def evaluation(nodes: Sequence[NodeProto], imported: Imported) -> Evaluation:
    """A graph node's nodes of the model, as a model of their own run by the reference evaluator."""
    inside = {name for node in nodes for name in node.output}
    names = list(dict.fromkeys(name for node in nodes for name in reads(node) if name not in inside))
    outputs = [name for name in nodes[-1].output if name]
    label = nodes[-1].name

    def declare(name: str) -> onnx.ValueInfoProto:
        kind = imported.types.get(name)
        if kind is None:
            return onnx.ValueInfoProto(name=name)
        return helper.make_tensor_value_info(name, kind.element, kind.shape)

    graph = helper.make_graph(nodes, label, list(map(declare, names)), list(map(declare, outputs)))
    model = ModelProto(ir_version=imported.model.ir_version, opset_import=imported.model.opset_import, graph=graph)
    run = evaluator(model)

    def call(tensors: Tensors) -> Sequence[np.ndarray]:
        try:
            return list(run.run(outputs, {name: tensors[name] for name in names}))
        except Exception as error:
            raise InvalidGraph(f"node {label!r} fails as it runs: {error}", details={"node": label}) from error

    return call
