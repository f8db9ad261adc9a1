"""Nodes that no kernel is made for, as NumPy calls on fixed arrays: what lies between the kernels of a model.

ONNX's reference evaluator takes tens of microseconds for a node, however small; what is not known here is left to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from onnx import NodeProto

from fettle.glue.arithmetic import ARITHMETIC
from fettle.glue.calls import Call, Constants, Maker, NotConstant
from fettle.glue.lookups import LOOKUPS, top
from fettle.glue.moves import MOVES, split
from fettle.glue.pools import POOLS, max_pool_with_indices
from fettle.glue.products import PRODUCTS
from fettle.glue.quantised import QUANTISED, quantise_dynamically
from fettle.glue.resizing import RESIZES
from fettle.glue.rotary import ROTATIONS
from fettle.graph.errors import InvalidGraph
from fettle.graph.onnx.protos import FETTLE


def prepare(
    node: NodeProto, inputs: Sequence[np.ndarray | None], constants: Constants, outs: Sequence[np.ndarray]
) -> Call | None:
    """A call that computes a node's outputs from arrays that stay where they are; None for an unknown operator.

    Args:
        inputs: arrays in the node's order, None for those it leaves out.
        constants: values that never change, by name.
        outs: an array for each result.

    Raises:
        InvalidGraph: sizes, axes or words that do not go together.
    """
    if node.domain and (node.domain, node.op_type) != (FETTLE, "RotaryEmbedding"):
        return None
    make = _MAKERS.get(node.op_type) if len(outs) == 1 else None
    try:
        if node.op_type == "Split":
            return split(node, inputs, outs)
        if node.op_type == "TopK":
            return top(node, inputs, outs)
        if node.op_type == "MaxPool" and len(outs) == 2:
            return max_pool_with_indices(node, inputs, outs)
        if node.op_type == "DynamicQuantizeLinear":
            return quantise_dynamically(inputs, outs)
        return None if make is None else make(node, inputs, constants, outs[0])
    except NotConstant:
        return None
    except Exception as error:  # whatever NumPy says to what no inference has checked
        raise InvalidGraph(
            f"node {node.name!r}: no {node.op_type} of these operands: {error}", details={"node": node.name}
        ) from error


_MAKERS: Mapping[str, Maker] = {
    **ARITHMETIC,
    **LOOKUPS,
    **MOVES,
    **POOLS,
    **PRODUCTS,
    **QUANTISED,
    **RESIZES,
    **ROTATIONS,
}
