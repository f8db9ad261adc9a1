"""Small reading helpers over ONNX protobuf messages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from fettle.graph.errors import InvalidGraph

MICROSOFT = "com.microsoft"
FETTLE = "fettle"
"""Our own operator domain, for operators that a model's opset is too old to have."""

_RANDOM = ("Random", "Bernoulli", "Multinomial", "Dropout")


def number(node: NodeProto, name: str, default: float | None = None) -> float:
    """A numeric attribute, for nodes that no checker has seen.

    Raises:
        InvalidGraph: it is no number, or absent and without a default.
    """
    found = next((attribute for attribute in node.attribute if attribute.name == name), None)
    value = default if found is None else onnx.helper.get_attribute_value(found)
    if not isinstance(value, int | float):
        raise InvalidGraph(
            f"node {node.name!r}: {node.op_type} needs a number as attribute {name}", details={"node": node.name}
        )
    return value


def integer(node: NodeProto, name: str, default: int | None = None) -> int:
    """An integer attribute; see :func:`number`."""
    value = number(node, name, default)
    if not isinstance(value, int):
        raise InvalidGraph(
            f"node {node.name!r}: attribute {name} of {node.op_type} is no integer", details={"node": node.name}
        )
    return value


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """Bodies of control flow: the graph attributes of a node."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from attribute.graphs


def is_deterministic(node: NodeProto) -> bool:
    """Whether the results follow from the inputs; of control flow, nothing is said."""
    return not node.op_type.startswith(_RANDOM) and not any(subgraphs(node))


def reads(node: NodeProto) -> list[str]:
    """Every tensor a node reads: its inputs, and what its bodies capture from outside. No repeats."""
    names = {name: None for name in node.input if name}
    for body in subgraphs(node):
        names |= dict.fromkeys(_captured(body))
    return list(names)


def constant_names(graph: GraphProto, weights: Iterable[str]) -> frozenset[str]:
    """Initializers, the inputs that stand for weights, and what deterministic nodes compute from those alone."""
    names = {tensor.name for tensor in graph.initializer} | set(weights)
    names |= {sparse.values.name for sparse in graph.sparse_initializer}
    for node in graph.node:
        if is_deterministic(node) and all(name in names for name in reads(node)):
            names.update(filter(None, node.output))
    return frozenset(names)


def _captured(body: GraphProto) -> Iterator[str]:
    inside = {value.name for value in body.input} | {tensor.name for tensor in body.initializer}
    for node in body.node:
        yield from (name for name in reads(node) if name not in inside)
        inside.update(node.output)
    yield from (value.name for value in body.output if value.name not in inside)


def names(graph: GraphProto) -> Iterator[str]:
    """Every tensor's name that a graph mentions, in bodies too; with repeats."""
    for value in (*graph.input, *graph.output, *graph.value_info):
        yield value.name
    for tensor in graph.initializer:
        yield tensor.name
    for sparse in graph.sparse_initializer:
        yield sparse.values.name
    for node in graph.node:
        yield from (*node.input, *node.output)
        for body in subgraphs(node):
            yield from names(body)


def tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Every tensor stored in a model: initializers and attributes, in bodies and functions too."""
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _node_tensors(node)


def _graph_tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    for node in graph.node:
        yield from _node_tensors(node)


def _node_tensors(node: NodeProto) -> Iterator[TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        if attribute.HasField("sparse_tensor"):
            yield attribute.sparse_tensor.values
            yield attribute.sparse_tensor.indices
    for body in subgraphs(node):
        yield from _graph_tensors(body)


def opset(model: ModelProto) -> int:
    """Version of the default operator set the model imports; 0 if it imports none."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
