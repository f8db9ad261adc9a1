"""Cutting a normalised model with known shapes into workloads and the nodes left over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper
from onnx.external_data_helper import uses_external_data

from fettle.graph.formats import Format
from fettle.graph.graph import Graph
from fettle.graph.onnx.load import read_external
from fettle.graph.onnx.patterns.facts import Facts, NoWorkload
from fettle.graph.onnx.patterns.fuse import CONSTANT, Piece, fuse
from fettle.graph.onnx.patterns.match import match
from fettle.graph.onnx.patterns.norms import find_norms
from fettle.graph.onnx.patterns.sdpa import find_attention
from fettle.graph.onnx.protos import constant_names
from fettle.graph.onnx.rewriting.masks import HIDDEN
from fettle.graph.onnx.shapes import TensorType, is_whole_row
from fettle.graph.onnx.weightlist import weight_names
from fettle.graph.tensors import TensorSpec

_FORMATS: dict[int, str] = {
    TensorProto.FLOAT: "f32", TensorProto.FLOAT16: "f16", TensorProto.BFLOAT16: "bf16", TensorProto.INT8: "i8",
    TensorProto.UINT8: "u8", TensorProto.INT32: "i32", TensorProto.INT64: "i64", TensorProto.BOOL: "bool",
}  # fmt: skip


def cut(model: ModelProto, types: Mapping[str, TensorType], folder: Path | None, reasons: Mapping[str, str]) -> Graph:
    """The model as a graph of workloads; every node is covered by exactly one graph node.

    Args:
        reasons: why nodes could not be written in other operators, by their names.
    """
    graph = model.graph
    weights = weight_names(model)
    constants = constant_names(graph, weights)
    whole = frozenset(tensor.name for tensor in graph.initializer if is_whole_row(tensor))
    facts = Facts(types, constants, _scalars(graph, folder), _causal_masks(graph), whole)
    found = {**find_attention(graph, facts), **find_norms(graph, facts)}
    inside = {node.name for piece in found.values() for node in piece.nodes} - found.keys()
    pieces = [found.get(node.name) or _piece(node, facts, reasons) for node in graph.node if node.name not in inside]
    nodes = tuple(piece.graph_node() for piece in fuse(graph, pieces, facts))
    free = [value.name for value in graph.input if value.name not in weights]
    return Graph(
        graph.name,
        nodes,
        _specs(free, types),
        _specs((value.name for value in graph.output), types),
    )


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


def _causal_masks(graph: GraphProto) -> frozenset[str]:
    """Matrices of 0 up to the diagonal that ends in the last corner, and -inf, or what models write for it, beyond."""
    names = set()
    for tensor in graph.initializer:
        *lead, rows, columns = (1, 1, *tensor.dims)
        plain = tensor.data_type == TensorProto.FLOAT and not uses_external_data(tensor)
        if plain and 1 < rows <= columns and all(size == 1 for size in lead):
            array = numpy_helper.to_array(tensor).reshape(rows, columns)
            if array[0, 0] == 0.0 and array[0, -1] < HIDDEN:  # others, weights too, are not looked at
                seen = np.tri(rows, columns, columns - rows, dtype=np.bool_)
                if np.array_equal(array == 0.0, seen) and (array[~seen] < HIDDEN).all():
                    names.add(tensor.name)
    return frozenset(names)


def _piece(node: NodeProto, facts: Facts, reasons: Mapping[str, str]) -> Piece:
    outputs = [name for name in node.output if name]
    if outputs and all(name in facts.constants for name in outputs):
        return Piece((node,), reason=CONSTANT)
    try:
        return Piece((node,), match(node, facts))
    except NoWorkload as error:
        return Piece((node,), reason=reasons.get(node.name, str(error)))


def _specs(names: Iterable[str], types: Mapping[str, TensorType]) -> tuple[TensorSpec, ...]:
    """The tensors whose shape is known and whose element type is a format; the model has the others too."""
    result = []
    for name in names:
        kind = types.get(name)
        if kind is not None and kind.shape is not None and kind.element in _FORMATS:
            result.append(TensorSpec(name, kind.shape, Format(_FORMATS[kind.element])))
    return tuple(result)
