"""Constant folding: what exporters compute of shapes and positions becomes initializers, and shapes become known.

Older exporters write the target of a Reshape or an Expand as a chain of Shape, Gather, Mul, Where …, and causal masks
as comparisons of ranges. Shape inference gives up on the former, and nobody recognises the latter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper
from onnx.external_data_helper import uses_external_data

from fettle.graph.onnx.load import read_external
from fettle.graph.onnx.protos import reads
from fettle.graph.onnx.reference import evaluator
from fettle.graph.onnx.shapes import TensorType, infer, is_small

LARGEST = 2**22
"""Elements of a folded tensor: a mask of 2048 positions by as many."""

_ROUNDS = 1024
"""Two for each layer of a network is usual."""

_PLAIN = frozenset({
    "Abs", "Add", "And", "Cast", "CastLike", "Ceil", "Clip", "Concat", "ConstantOfShape", "Cos", "CumSum", "Div",
    "Equal", "Exp", "Expand", "EyeLike", "Flatten", "Floor", "Gather", "GatherElements", "GatherND", "Greater",
    "GreaterOrEqual", "Identity", "IsInf", "IsNaN", "Less", "LessOrEqual", "Log", "Max", "Min", "Mod", "Mul", "Neg",
    "Not", "Or", "Pow", "Range", "Reciprocal", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum",
    "Reshape", "Round", "ScatterND", "Sigmoid", "Sign", "Sin", "Size", "Slice", "Split", "Sqrt", "Squeeze", "Sub",
    "Tanh", "Tile", "Transpose", "Trilu", "Unsqueeze", "Where", "Xor",
})  # fmt: skip
"""Operators that take time and memory in proportion to their operands and results: a Conv of few results may pad an
image to any size, an Einsum of one may sum over anything."""

_TOGETHER = 2**26
"""Elements of all folded tensors; a model that asks for more is folded no further."""


def infer_folded(model: ModelProto, folder: Path | None) -> dict[str, TensorType]:
    """Types of all tensors, as :func:`fettle.graph.onnx.shapes.infer`, after folding constants in place.

    Only small initializers (see :func:`fettle.graph.onnx.shapes.is_small`) and what follows from them is folded, so
    that a model whose weights were taken out is understood as the whole one is.

    Raises:
        InvalidGraph: see :func:`fettle.graph.onnx.shapes.infer`.
    """
    types = infer(model, folder)
    folding = _Folding(model, folder)
    for _ in range(_ROUNDS):
        if not folding.step(types):
            break
        types = infer(model, folder)
    return types


class _Folding:
    """Values known so far, by tensor name."""

    def __init__(self, model: ModelProto, folder: Path | None) -> None:
        self._model, self._left = model, _TOGETHER
        self._values = {t.name: _value(t, folder) for t in model.graph.initializer if is_small(t)}

    def step(self, types: Mapping[str, TensorType]) -> bool:
        """Fold what can be folded with these types; whether that may have made more shapes known."""
        graph = self._model.graph
        kept: list[NodeProto] = []
        made: dict[str, np.ndarray] = {}
        for node in graph.node:
            found = self._folded(node, types)
            if found is None:
                kept.append(node)
                continue
            made.update(zip(node.output, found, strict=True))
            self._values.update(zip(node.output, found, strict=True))
        del graph.node[:]
        graph.node.extend(kept)
        used = {name for node in kept for name in reads(node)} | {value.name for value in graph.output}
        graph.initializer.extend(numpy_helper.from_array(a, name) for name, a in made.items() if name in used)
        return bool(made) and any(types[name].shape is None for node in kept for name in node.output if name in types)

    def _folded(self, node: NodeProto, types: Mapping[str, TensorType]) -> Sequence[np.ndarray] | None:
        """The node's results, if they are known."""
        if node.domain or not node.output or not all(node.output):
            return None
        if node.op_type == "Shape":
            kind = types.get(node.input[0])
            return None if kind is None or kind.shape is None else [_shape(node, kind.shape)]
        if node.op_type not in _PLAIN or any(name not in self._values for name in reads(node)):
            return None
        size = _elements(node, types)
        if size is None or size > self._left:
            return None
        self._left -= size
        return _evaluated(self._model, node, self._values)


def _shape(node: NodeProto, shape: tuple[int, ...]) -> np.ndarray:
    bounds = {attribute.name: attribute.i for attribute in node.attribute}
    return np.array(shape[bounds.get("start") : bounds.get("end")], np.int64)


def _elements(node: NodeProto, types: Mapping[str, TensorType]) -> int | None:
    """Elements of a node's results together; None if they are not known or too many."""
    sizes = []
    for name in node.output:
        kind = types.get(name)
        if kind is None or kind.shape is None or kind.element in (TensorProto.UNDEFINED, TensorProto.STRING):
            return None
        sizes.append(math.prod(kind.shape))
    return sum(sizes) if max(sizes) <= LARGEST else None


def _evaluated(model: ModelProto, node: NodeProto, values: Mapping[str, np.ndarray]) -> Sequence[np.ndarray] | None:
    """The node's results; None if it fails, which is a matter of whoever runs the model."""
    names = reads(node)
    alone = ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    alone.graph.name = node.name
    alone.graph.node.append(node)
    for name in names:
        alone.graph.input.add(name=name)
    for name in node.output:
        alone.graph.output.add(name=name)
    try:
        with np.errstate(all="ignore"):
            found = evaluator(alone).run(None, {name: values[name] for name in names})
    except Exception:  # whatever the operator raises
        return None
    return [np.asarray(array) for array in found]


def _value(tensor: TensorProto, folder: Path | None) -> np.ndarray:
    if not uses_external_data(tensor):
        return numpy_helper.to_array(tensor)
    copy = TensorProto()
    copy.CopyFrom(tensor)
    read_external(copy, folder)
    return numpy_helper.to_array(copy)
