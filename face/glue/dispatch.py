"""Nodes that no kernel is made for, as NumPy calls on fixed arrays: what lies between the kernels of a model.

ONNX's reference evaluator takes tens of microseconds for a node, however small; what is not known here is left to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from onnx import NodeProto

from fettle.glue.arithmetic import ARITHMETIC
from fettle.glue.calls import Call, Constants, Maker, NotConstant
from fettle.glue.lookups import LOOKUPS
from fettle.glue.moves import MOVES, split
from fettle.glue.pools import POOLS
from fettle.glue.quantised import QUANTISED, quantise_dynamically
from fettle.glue.resizing import RESIZES
from fettle.glue.rotary import ROTATIONS
from fettle.graph.onnx.protos import FETTLE


def prepare(
    node: NodeProto, inputs: Sequence[np.ndarray | None], constants: Constants, outs: Sequence[np.ndarray]
) -> Call | None:
    """A call that computes a node's outputs from arrays that stay where they are; None for an unknown operator.

    Args:
        inputs: arrays in the node's order, None for those it leaves out.
        constants: values that never change, by name.
        outs: an array for each result.
    """
    if node.domain and (node.domain, node.op_type) != (FETTLE, "RotaryEmbedding"):
        return None
    if node.op_type == "Split":
        return split(node, inputs, outs)
    if node.op_type == "DynamicQuantizeLinear":
        return quantise_dynamically(inputs, outs)
    make = _MAKERS.get(node.op_type)
    if make is None or len(outs) != 1:
        return None
    try:
        return make(node, inputs, constants, outs[0])
    except NotConstant:
        return None


_MAKERS: Mapping[str, Maker] = {**ARITHMETIC, **LOOKUPS, **MOVES, **POOLS, **QUANTISED, **RESIZES, **ROTATIONS}
