"""Floats of 16 bits as float32: between a model's inputs and outputs, which keep their types.

Kernels of whole models are those of float32, so a model of float16 or bfloat16 would be left to the reference evaluator
otherwise. Results are those of the model but for its roundings of each tensor, which are left out, and numbers beyond
float16's largest stay finite.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper
from onnx.external_data_helper import uses_external_data

from fettle.graph.onnx.protos import FETTLE, MICROSOFT, names, subgraphs, tensors
from fettle.graph.onnx.shapes import is_small
from fettle.graph.onnx.weightlist import weight_names

_SHORT = (TensorProto.FLOAT16, TensorProto.BFLOAT16)

Constants = dict[str, tuple[int, tuple[int, ...]]]
"""Element type and shape of constants that nodes compute, by name."""

_TYPES = ("to", "dtype", "output_dtype", "softmax_precision", "stash_type", "precision")
"""Attributes that are element types."""

_KNOWN = ("", FETTLE, MICROSOFT)
"""Domains of operators that take float32 where they take shorter floats."""


def has_short_floats(model: ModelProto) -> bool:
    """Whether a model has inputs, outputs, constants or conversions of 16-bit floats."""
    values = (*model.graph.input, *model.graph.output)
    return (
        any(value.type.tensor_type.elem_type in _SHORT for value in values)
        or any(tensor.data_type in _SHORT for tensor in tensors(model))
        or any(a.i in _SHORT for node in _nodes(model.graph) for a in node.attribute if a.name in _TYPES)
    )


def widen(model: ModelProto) -> Constants:
    """Make all floats of 16 bits between inputs and outputs float32, in place.

    Large constants stay as they are stored, and are converted by nodes, which are returned. A model with operators of
    unknown domains is left alone, and so is one that looks at the bits of numbers.
    """
    graph = model.graph
    if not has_short_floats(model):
        return {}
    if any(node.domain not in _KNOWN or node.op_type == "BitCast" for node in _nodes(graph)):
        return {}
    widening = _Widening(names(graph))
    wide = {value.name: widening.fresh(value.name) for value in _short(graph.input)}
    before = [_cast(name, to) for name, to in wide.items()]
    results = {value.name: value.type.tensor_type.elem_type for value in _short(graph.output)}
    made = {name: widening.fresh(name) for node in graph.node for name in node.output if name in results}
    widening.widen(graph, {**wide, **made})
    for node in graph.node:
        for index, name in enumerate(node.output):
            node.output[index] = made.get(name, name)
    after = [_cast(source, name, results[name]) for name, source in made.items()]
    nodes = [*before, *graph.node, *after]
    del graph.node[:]
    graph.node.extend(nodes)
    weights = weight_names(model)
    for value in _short(graph.input):
        if value.name in weights:
            shape = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
            widening.constants[wide[value.name]] = (TensorProto.FLOAT, shape)
    return widening.constants


class _Widening:
    """Of a model's graph and the bodies in it.

    Attributes:
        constants: that the nodes added here compute.
    """

    def __init__(self, taken: Iterable[str]) -> None:
        self.constants: Constants = {}
        self._taken = set(taken)

    def fresh(self, stem: str) -> str:
        """A tensor's name that is not taken."""
        name = f"{stem}_wide"
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name

    def widen(self, graph: GraphProto, wide: dict[str, str]) -> None:
        """Types inside a graph, and names of what it reads.

        Args:
            wide: names by which tensors from outside are read.
        """
        casts, given = [], {value.name for value in graph.output}
        for tensor in graph.initializer:
            if tensor.data_type not in _SHORT:
                continue
            if is_small(tensor) and not uses_external_data(tensor) and tensor.name not in given:
                tensor.CopyFrom(_as_float(tensor))
                continue
            wide[tensor.name] = self.fresh(tensor.name)
            casts.append(_cast(tensor.name, wide[tensor.name]))
            self.constants[wide[tensor.name]] = (TensorProto.FLOAT, tuple(tensor.dims))
        for value in _short(graph.value_info):
            value.type.tensor_type.elem_type = TensorProto.FLOAT
        for node in graph.node:
            for index, name in enumerate(node.input):
                node.input[index] = wide.get(name, name)
            for attribute in node.attribute:
                if attribute.name in _TYPES and attribute.i in _SHORT:
                    attribute.i = TensorProto.FLOAT
                if attribute.HasField("t") and attribute.t.data_type in _SHORT:
                    attribute.t.CopyFrom(_as_float(attribute.t))
            for body in subgraphs(node):
                for value in _short([*body.input, *body.output]):
                    value.type.tensor_type.elem_type = TensorProto.FLOAT
                inside = dict(wide)
                self.widen(body, inside)
                for value in body.output:
                    value.name = inside.get(value.name, value.name)
        nodes = [*casts, *graph.node]
        del graph.node[:]
        graph.node.extend(nodes)


def _as_float(tensor: TensorProto) -> TensorProto:
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)


def _cast(source: str, result: str, to: int = TensorProto.FLOAT) -> NodeProto:
    return helper.make_node("Cast", [source], [result], name=f"{result}/cast", to=to)


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    for node in graph.node:
        yield node
        for body in subgraphs(node):
            yield from _nodes(body)


def _short(values: Iterable[ValueInfoProto]) -> list[ValueInfoProto]:
    return [value for value in values if value.type.tensor_type.elem_type in _SHORT]
