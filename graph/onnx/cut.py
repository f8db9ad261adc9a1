"""Cutting a normalised model with known shapes into workloads and the nodes left over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import attrs
import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper
from onnx.external_data_helper import uses_external_data

from fettle.graph.formats import Format
from fettle.graph.graph import Graph, GraphNode
from fettle.graph.onnx.chains import Term
from fettle.graph.onnx.epilogues import extend, takes_epilogue
from fettle.graph.onnx.load import read_external
from fettle.graph.onnx.match import Facts, Match, NoWorkload, elementwise, match
from fettle.graph.onnx.protos import reads, subgraphs
from fettle.graph.onnx.shapes import TensorType, weight_names
from fettle.graph.tensors import TensorSpec

CONSTANT = "computed once, from constants only"
_RANDOM = ("Random", "Bernoulli", "Multinomial", "Dropout")

_FORMATS: dict[int, str] = {
    TensorProto.FLOAT: "f32", TensorProto.FLOAT16: "f16", TensorProto.BFLOAT16: "bf16", TensorProto.INT8: "i8",
    TensorProto.UINT8: "u8", TensorProto.INT32: "i32", TensorProto.INT64: "i64", TensorProto.BOOL: "bool",
}  # fmt: skip


def cut(model: ModelProto, types: Mapping[str, TensorType], folder: Path | None) -> Graph:
    """The model as a graph of workloads; every node is covered by exactly one graph node."""
    graph = model.graph
    weights = weight_names(model)
    constants = constant_names(graph, weights)
    facts = Facts(types, constants, _scalars(graph, folder))
    pieces = [_piece(node, facts) for node in graph.node]
    nodes = tuple(piece.graph_node() for piece in _fuse(graph, pieces, facts))
    free = [value.name for value in graph.input if value.name not in weights]
    return Graph(
        graph.name,
        nodes,
        _specs(free, types),
        _specs((value.name for value in graph.output), types),
    )


def constant_names(graph: GraphProto, weights: tuple[str, ...]) -> frozenset[str]:
    """Initializers, the inputs that stand for weights, and what deterministic nodes compute from those alone."""
    names = {tensor.name for tensor in graph.initializer} | set(weights)
    names |= {sparse.values.name for sparse in graph.sparse_initializer}
    for node in graph.node:
        deterministic = not node.op_type.startswith(_RANDOM) and not any(subgraphs(node))
        if deterministic and all(name in names for name in reads(node)):
            names.update(filter(None, node.output))
    return frozenset(names)


def _scalars(graph: GraphProto, folder: Path | None) -> dict[str, float]:
    result = {}
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and all(size == 1 for size in tensor.dims):
            copy = TensorProto()
            copy.CopyFrom(tensor)
            if uses_external_data(copy):
                read_external(copy, folder)
            result[tensor.name] = float(np.asarray(numpy_helper.to_array(copy)).reshape(()))
    return result


@attrs.frozen
class _Piece:
    """A graph node in the making: the model's nodes it covers, and its match or the reason for none."""

    nodes: tuple[NodeProto, ...]
    match: Match | None = None
    reason: str = ""

    @property
    def last(self) -> NodeProto:
        return self.nodes[-1]

    def graph_node(self) -> GraphNode:
        outputs = tuple(filter(None, self.last.output))
        covers = tuple(node.name for node in self.nodes)
        if self.match is None:
            inputs = tuple((name,) for name in reads(self.last))
            return GraphNode(self.last.name, covers, inputs, outputs, None, self.reason)
        return GraphNode(self.last.name, covers, self.match.inputs, outputs[:1], self.match.workload)


def _piece(node: NodeProto, facts: Facts) -> _Piece:
    outputs = [name for name in node.output if name]
    if outputs and all(name in facts.constants for name in outputs):
        return _Piece((node,), reason=CONSTANT)
    try:
        return _Piece((node,), match(node, facts))
    except NoWorkload as error:
        return _Piece((node,), reason=str(error))


def _fuse(graph: GraphProto, pieces: list[_Piece], facts: Facts) -> list[_Piece]:
    """Merge each elementwise piece into the float product it alone reads, or else into its one consumer.

    The latter if that is elementwise too and the expression fits.
    """
    consumers = Counter(name for node in graph.node for name in reads(node))
    kept_names = {value.name for value in graph.output}
    merged: dict[str, _Piece] = {}
    """Pieces that may still be absorbed, by the tensor they produce."""
    products: dict[str, _Piece] = {}
    """Products that may still get an epilogue, by the tensor they produce."""
    result: dict[str, _Piece] = {}
    for piece in pieces:
        piece = _finish_product(piece, products, result, facts)  # noqa: PLW2901
        output = piece.last.output[0] if piece.last.output else ""
        if takes_epilogue(piece.match) and consumers[output] == 1 and output not in kept_names:
            products[output] = piece
        if piece.match is not None and piece.match.term is not None:
            piece = _absorb(piece, merged, result, facts)  # noqa: PLW2901
            if consumers[output] == 1 and output not in kept_names:
                merged[output] = piece
        result[piece.last.name] = piece
    return list(result.values())


def _finish_product(piece: _Piece, products: dict[str, _Piece], result: dict[str, _Piece], facts: Facts) -> _Piece:
    """The piece as the epilogue of a product it reads, if it can be that."""
    for name in piece.last.input if len(piece.nodes) == 1 and piece.reason != CONSTANT else ():
        product = products.get(name)
        if product is not None and product.match is not None:
            match = extend(product.match, name, piece.last, facts)
            if match is not None:
                del result[product.last.name], products[name]
                return _Piece((*product.nodes, *piece.nodes), match)
    return piece


def _absorb(piece: _Piece, merged: dict[str, _Piece], result: dict[str, _Piece], facts: Facts) -> _Piece:
    assert piece.match is not None
    term = piece.match.term
    assert term is not None
    nodes = piece.nodes
    for name in term.tensors():
        producer = merged.get(name)
        if producer is None or producer.match is None or producer.match.term is None:
            continue
        candidate: Term = term.substitute(name, producer.match.term)
        if candidate.fits:
            term, nodes = candidate, (*producer.nodes, *nodes)
            del result[producer.last.name], merged[name]
    if nodes == piece.nodes:
        return piece
    return _Piece(nodes, elementwise(term, facts.shape(piece.last.output[0])))


def _specs(names: Iterable[str], types: Mapping[str, TensorType]) -> tuple[TensorSpec, ...]:
    """The tensors whose shape is known and whose element type is a format; the model has the others too."""
    result = []
    for name in names:
        kind = types.get(name)
        if kind is not None and kind.shape is not None and kind.element in _FORMATS:
            result.append(TensorSpec(name, kind.shape, Format(_FORMATS[kind.element])))
    return tuple(result)
