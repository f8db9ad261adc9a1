"""A model in one form: functions inlined, nodes named and sorted, constants in one place; its meaning stays."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

import onnx
from onnx import GraphProto, ModelProto, NodeProto, helper

from fettle.graph.errors import InvalidGraph
from fettle.graph.onnx.protos import reads
from fettle.graph.onnx.rewriting.functions import inline_functions
from fettle.graph.onnx.rewriting.rewrites import rewrite
from fettle.graph.onnx.rewriting.widen import widen


def normalise(model: ModelProto) -> ModelProto:
    """A copy with functions inlined, nodes named and sorted, constants as initializers, floats of at least 32 bits,
    and fewer operators.

    Raises:
        InvalidGraph: the nodes form a cycle, two nodes produce one tensor, functions cannot be inlined, or a node is
            not as its operator's definition says.
    """
    result = ModelProto()
    result.CopyFrom(model)
    result = inline_functions(result)
    graph = result.graph
    for node in graph.node:
        if node.domain == "ai.onnx":
            node.domain = ""
    _name_nodes(graph)
    _sort(graph)
    _lift_constants(graph)
    rewrite(result, widen(result))
    _name_nodes(graph)
    constants = {tensor.name for tensor in graph.initializer}
    free = [value for value in graph.input if value.name not in constants]
    del graph.input[:]
    graph.input.extend(free)
    return result


def _name_nodes(graph: GraphProto) -> None:
    taken: set[str] = set()
    for index, node in enumerate(graph.node):
        name = node.name or f"{node.op_type}_{index}"
        while name in taken:
            name = f"{name}_{index}"
        taken.add(name)
        node.name = name


def _sort(graph: GraphProto) -> None:
    producers: dict[str, int] = {}
    for index, node in enumerate(graph.node):
        for output in filter(None, node.output):
            if output in producers:
                names = f"{graph.node[producers[output]].name!r} and {node.name!r}"
                raise InvalidGraph(f"nodes {names} both produce tensor {output!r}", details={"node": node.name})
            producers[output] = index
    needs = {
        index: [producers[name] for name in reads(node) if name in producers] for index, node in enumerate(graph.node)
    }
    if all(before < index for index, wanted in needs.items() for before in wanted):
        return
    try:
        order = list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        cycle = [graph.node[index].name for index in error.args[1]]
        raise InvalidGraph(f"nodes form a cycle: {' -> '.join(cycle)}", details={"node": cycle[0]}) from None
    nodes = [graph.node[index] for index in order]
    del graph.node[:]
    graph.node.extend(nodes)


def _lift_constants(graph: GraphProto) -> None:
    """``Constant`` nodes become initializers, so that a weight is a weight however it is written."""
    kept = []
    for node in graph.node:
        tensor = _constant(node) if node.op_type == "Constant" and node.domain == "" else None
        if tensor is None:
            kept.append(node)
        else:
            tensor.name = node.output[0]
            graph.initializer.append(tensor)
    del graph.node[:]
    graph.node.extend(kept)


def _constant(node: NodeProto) -> onnx.TensorProto | None:
    """The value of a well-formed ``Constant`` of numbers; the checker judges the others."""
    if len(node.attribute) != 1 or len(node.output) != 1 or node.input:
        return None
    attribute, kinds = node.attribute[0], onnx.AttributeProto
    match attribute.name, attribute.type:
        case "value", kinds.TENSOR:
            tensor = onnx.TensorProto()
            tensor.CopyFrom(attribute.t)
            return tensor
        case "value_float", kinds.FLOAT:
            return helper.make_tensor("", onnx.TensorProto.FLOAT, [], [attribute.f])
        case "value_int", kinds.INT:
            return helper.make_tensor("", onnx.TensorProto.INT64, [], [attribute.i])
        case "value_floats", kinds.FLOATS:
            return helper.make_tensor("", onnx.TensorProto.FLOAT, [len(attribute.floats)], attribute.floats)
        case "value_ints", kinds.INTS:
            return helper.make_tensor("", onnx.TensorProto.INT64, [len(attribute.ints)], attribute.ints)
    return None
