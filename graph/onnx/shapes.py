"""Checking a model and inferring every tensor's type."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper
from onnx.external_data_helper import uses_external_data

from fettle.graph.errors import InvalidGraph
from fettle.graph.onnx.load import read_external
from fettle.graph.onnx.nbits import NBits, is_nbits
from fettle.graph.onnx.patterns.chains import VIEWS
from fettle.graph.onnx.protos import FETTLE, MICROSOFT
from fettle.graph.operators.base import MAX_EXTENT, MAX_TENSOR_BYTES

SMALL = 1024
"""Initializers of at most so many elements stay in the skeleton: they may be shapes that inference follows."""

LARGEST_MASK = 2**22
"""Elements of a truth-valued initializer that is kept as small ones are: it may be a mask that is recognised."""

_ERRORS = (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, RuntimeError, ValueError, TypeError)


_SAME_TYPE = {
    "": ("GroupNormalization",),
    MICROSOFT: ("RotaryEmbedding",),
    FETTLE: ("RotaryEmbedding", "Gelu", "Swish"),
}
"""Operators whose result has the type of the first input, of which inference knows nothing, or not in every opset."""


@attrs.frozen
class TensorType:
    """Element type (``TensorProto.DataType``) and shape of a tensor; shape None if it is not known."""

    element: int
    shape: tuple[int, ...] | None


def infer(model: ModelProto, folder: Path | None) -> dict[str, TensorType]:
    """Check the model and infer the type of every tensor of its main graph.

    Where nothing can be inferred (custom operators, shapes that depend on data), what the model declares is believed.
    Runs on a *skeleton*: large initializers become inputs (nothing is copied or serialised), and operators the
    checker or inference do not know are stood in for by standard ones of equal type behaviour.

    Raises:
        InvalidGraph: the checker or strict shape inference refuses, declared and inferred shapes disagree, a Reshape
            changes the number of elements, or a tensor is absurdly large.
    """
    declared = {value.name: value for value in (*model.graph.value_info, *model.graph.output)}
    skeleton = _skeleton(model, folder)
    try:
        onnx.checker.check_model(skeleton)
        for value in skeleton.graph.output:
            value.type.tensor_type.ClearField("shape")
        # its own data propagation takes memory without limit; what shapes depend on is folded instead (fold.py)
        inferred = onnx.shape_inference.infer_shapes(skeleton, check_type=True, strict_mode=True)
    except _ERRORS as error:
        raise InvalidGraph(f"invalid model: {' '.join(str(error).split())[:1000]}") from None
    types: dict[str, TensorType] = {}
    for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
        types[value.name] = _type(value)
    for tensor in model.graph.initializer:
        types[tensor.name] = TensorType(tensor.data_type, tuple(tensor.dims))
    for name, value in declared.items():
        if name in types and types[name].shape is None:
            types[name] = _type(value)
    for name, kind in types.items():
        _check_size(name, kind)
        _check_declared(name, kind, declared.get(name))
    for node in model.graph.node:
        _check_view(node, types)
    return types


def is_small(tensor: TensorProto) -> bool:
    """Whether an initializer's values may say something about the model's structure; others are weights."""
    return math.prod(tensor.dims) <= (LARGEST_MASK if tensor.data_type == TensorProto.BOOL else SMALL)


def is_whole_row(tensor: TensorProto) -> bool:
    """Whether an initializer in memory holds whole numbers along one axis: what comes of adding them to rounded numbers
    depends on that."""
    if tensor.data_type != TensorProto.FLOAT or math.prod(tensor.dims) != max(tensor.dims, default=1):
        return False
    if uses_external_data(tensor):
        return False
    array = numpy_helper.to_array(tensor)
    return bool(np.array_equal(array, np.rint(array)))


def _skeleton(model: ModelProto, folder: Path | None) -> ModelProto:
    graph = model.graph
    skeleton = ModelProto(ir_version=max(model.ir_version, 4), producer_name=model.producer_name)
    skeleton.opset_import.extend(model.opset_import)
    skeleton.graph.name = graph.name
    skeleton.graph.input.extend(graph.input)
    skeleton.graph.output.extend(graph.output)
    skeleton.graph.sparse_initializer.extend(graph.sparse_initializer)
    for tensor in graph.initializer:
        if is_small(tensor):
            kept = skeleton.graph.initializer.add()
            kept.CopyFrom(tensor)
            if uses_external_data(kept):
                read_external(kept, folder)
        else:
            _check_stored(tensor)
            value = helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            skeleton.graph.input.append(value)
    elements = {value.name: value.type.tensor_type.elem_type for value in skeleton.graph.input}
    elements |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    produced: set[str] = set()
    for node in graph.node:
        stand_ins = list(_stand_in(node, elements, skeleton))
        skeleton.graph.node.extend(stand_ins or [node])
        if not stand_ins and node.domain not in ("", "ai.onnx"):
            produced.update(node.output)
    # Nothing can be inferred through an operator of an unknown domain: there, what the model declares is believed.
    skeleton.graph.value_info.extend(value for value in graph.value_info if value.name in produced)
    return skeleton


def _stand_in(node: NodeProto, elements: Mapping[str, int], skeleton: ModelProto) -> Iterator[NodeProto]:
    if is_nbits(node):
        nbits = NBits.of(node)
        weight = f"{node.name}/{node.input[1]}/dequantised"
        element = elements.get(node.input[2], TensorProto.FLOAT)
        skeleton.graph.input.append(helper.make_tensor_value_info(weight, element, [nbits.k, nbits.n]))
        yield helper.make_node("MatMul", [node.input[0], weight], node.output[:1], name=node.name)
    elif node.op_type == "RMSNormalization" and node.domain == FETTLE:
        yield helper.make_node("Mul", list(node.input[:2]), node.output[:1], name=node.name)
    elif node.op_type in _SAME_TYPE.get(node.domain, ()):
        yield helper.make_node("Identity", node.input[:1], node.output[:1], name=node.name)


def _check_stored(tensor: TensorProto) -> None:
    """The stored bytes are as many as the shape says. (External data is measured when it is read.)"""
    if uses_external_data(tensor):
        return
    try:
        onnx.checker.check_tensor(tensor)
    except _ERRORS as error:
        raise InvalidGraph(f"initializer {tensor.name!r}: {error}", details={"tensor": tensor.name}) from None


def _type(value: ValueInfoProto) -> TensorType:
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not kind.HasField("shape"):
        return TensorType(kind.elem_type, None)
    if not all(dim.HasField("dim_value") for dim in kind.shape.dim):
        return TensorType(kind.elem_type, None)
    return TensorType(kind.elem_type, tuple(dim.dim_value for dim in kind.shape.dim))


def _check_size(name: str, kind: TensorType) -> None:
    if kind.shape is None:
        return
    if any(not 0 <= size <= MAX_EXTENT for size in kind.shape):
        raise InvalidGraph(f"tensor {name!r} has the absurd shape {kind.shape}", details={"tensor": name})
    width = 1
    if kind.element not in (TensorProto.UNDEFINED, TensorProto.STRING):
        width = helper.tensor_dtype_to_np_dtype(kind.element).itemsize
    if math.prod(kind.shape) * width > MAX_TENSOR_BYTES:
        raise InvalidGraph(
            f"tensor {name!r} of shape {kind.shape} takes {math.prod(kind.shape) * width} bytes; "
            f"at most {MAX_TENSOR_BYTES} are allowed",
            details={"tensor": name},
        )


def _check_view(node: NodeProto, types: Mapping[str, TensorType]) -> None:
    """Inference believes the shape that a Reshape is given."""
    if node.domain or node.op_type not in VIEWS:
        return
    before, after = (types[name].shape if name in types else None for name in (node.input[0], node.output[0]))
    if before is not None and after is not None and math.prod(before) != math.prod(after):
        raise InvalidGraph(
            f"node {node.name!r}: {list(before)} has not as many elements as {list(after)}",
            details={"node": node.name},
        )


def _check_declared(name: str, kind: TensorType, declared: ValueInfoProto | None) -> None:
    """Inference trusts what a model declares about its tensors; we compare instead."""
    if declared is None or kind.shape is None or not declared.type.tensor_type.HasField("shape"):
        return
    dims = declared.type.tensor_type.shape.dim
    agrees = len(dims) == len(kind.shape) and all(
        not dim.HasField("dim_value") or dim.dim_value == size for dim, size in zip(dims, kind.shape, strict=True)
    )
    if not agrees:
        written = [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?" for dim in dims]
        raise InvalidGraph(
            f"tensor {name!r} is declared as {written}, but its shape is {list(kind.shape)}", details={"tensor": name}
        )
