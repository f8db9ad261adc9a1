"""Symbolic dimensions of a model, bound to numbers."""

from __future__ import annotations

from collections.abc import Mapping

from onnx import ModelProto

from fettle.graph.errors import InvalidGraph
from fettle.graph.operators.base import MAX_EXTENT


def bind(model: ModelProto, dims: Mapping[str, int]) -> None:
    """Replace the symbolic dimensions of the model's inputs by numbers, in place and wherever they are declared.

    Raises:
        InvalidGraph: a dimension stays unbound, ``dims`` names none of the model's, or a size is out of range.
    """
    symbols: dict[str, None] = {}
    for value in model.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                symbols[dim.dim_param] = None
    listed = " ".join(symbols) or "none"
    for name, size in dims.items():
        if name not in symbols:
            raise InvalidGraph(
                f"the model has no symbolic dimension {name!r}", hint=f"its symbolic dimensions: {listed}"
            )
        if not 0 <= size <= MAX_EXTENT:
            raise InvalidGraph(f"dimension {name}={size} is not between 0 and {MAX_EXTENT}")
    for value in model.graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.dim_param in dims:
                dim.dim_value = dims[dim.dim_param]
            if dim.dim_param:
                raise InvalidGraph(
                    f"symbolic dimension {dim.dim_param!r} of input {value.name!r} has no size",
                    hint=f"give --dim {dim.dim_param}=1",
                    details={"dimension": dim.dim_param},
                )
            if not dim.HasField("dim_value"):
                raise InvalidGraph(f"axis {axis} of input {value.name!r} has neither a size nor a name")
    for value in (*model.graph.value_info, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in dims:
                dim.dim_value = dims[dim.dim_param]
