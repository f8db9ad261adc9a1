"""What rewrites need to know of a model and to add to it: constants, new ones, and names that are not taken."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper
from onnx.external_data_helper import uses_external_data

from fettle.graph.onnx.protos import names, opset
from fettle.graph.onnx.weightlist import weight_names


class Workbench:
    """A graph under rewriting.

    Attributes:
        graph: its initializers grow.
        opset: of the default domain.
        constants: name -> (element type, shape) of initializers, and of the inputs that stand for weights.
    """

    def __init__(self, model: ModelProto) -> None:
        self.graph: GraphProto = model.graph
        self.opset = opset(model)
        weights = weight_names(model)
        self.constants: dict[str, tuple[int, tuple[int, ...]]] = {
            value.name: (kind.elem_type, tuple(dim.dim_value for dim in kind.shape.dim))
            for value in self.graph.input
            if value.name in weights
            for kind in (value.type.tensor_type,)
        }
        self.constants |= {tensor.name: (tensor.data_type, tuple(tensor.dims)) for tensor in self.graph.initializer}
        self._initializers = {tensor.name: tensor for tensor in self.graph.initializer}
        self._taken = set(names(self.graph))

    def fresh(self, stem: str) -> str:
        """A tensor's name that is not taken."""
        name, count = stem, 0
        while name in self._taken:
            name, count = f"{stem}_{count}", count + 1
        self._taken.add(name)
        return name

    def value(self, name: str) -> np.ndarray | None:
        """An initializer that lies in memory; None for anything else."""
        tensor = self._initializers.get(name)
        return None if tensor is None or uses_external_data(tensor) else numpy_helper.to_array(tensor)

    def constant(self, stem: str, values: Sequence[int] | np.ndarray | np.float32) -> str:
        """The name of a new initializer; of int64 unless an array says otherwise."""
        name = self.fresh(stem)
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
        self._initializers[name] = self.graph.initializer[-1]
        return name


def scaled(bench: Workbench, tensor: str, factor: str, stem: str) -> Chain:
    """A constant times another: a constant where both are in memory, else a node."""
    values = bench.value(tensor), bench.value(factor)
    if values[0] is None or values[1] is None:
        return Chain(bench, tensor, stem).then("Mul", factor)
    return Chain(bench, bench.constant(f"{stem}_scaled", np.asarray(values[0] * values[1])), stem)


class Chain:
    """Nodes that compute one tensor step by step, each from the last one's result and from others."""

    def __init__(self, bench: Workbench, tensor: str, stem: str) -> None:
        self.nodes: list[NodeProto] = []
        self.tensor = tensor
        self._bench, self._stem = bench, stem

    def then(self, operator: str, *others: str, **attributes: Any) -> Chain:
        """One step more."""
        result = self._bench.fresh(f"{self._stem}_{operator.lower()}")
        self.nodes.append(helper.make_node(operator, [self.tensor, *others], [result], **attributes))
        self.tensor = result
        return self

    def reshaped(self, shape: Iterable[int]) -> Chain:
        """The same elements in another shape."""
        return self.then("Reshape", self._bench.constant(f"{self._stem}_shape", list(shape)))
