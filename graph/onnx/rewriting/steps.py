"""What QuantizeLinear and DequantizeLinear do to a tensor, where it is known: one step and one zero point."""

from __future__ import annotations

from typing import TypeGuard

import attrs
import numpy as np
from onnx import NodeProto

from fettle.graph.onnx.rewriting.workbench import Workbench

_UNUSUAL = ("block_size", "output_dtype", "precision")
"""Attributes that say something of blocks and types, unless they are 0."""


@attrs.frozen
class Steps:
    """How codes of 8 bits stand for numbers: ``(code - zero) · step``.

    Attributes:
        step: of the whole tensor, positive.
        zero: zero point.
        zero_name: the tensor that holds it.
        dtype: of codes, int8 or uint8.
    """

    step: float
    zero: int
    zero_name: str = attrs.field(eq=False)
    dtype: np.dtype[np.generic]

    @classmethod
    def of(cls, node: NodeProto | None, bench: Workbench) -> Steps | None:
        """Those of a QuantizeLinear or DequantizeLinear; None where they are not both one number that is known."""
        if not is_plain(node):
            return None
        scale, point = bench.value(node.input[1]), bench.value(node.input[2])
        if scale is None or scale.dtype != np.float32 or scale.size != 1 or not scale.reshape(()) > 0:
            return None
        if point is None or point.size != 1 or point.dtype not in (np.int8, np.uint8):
            return None
        return cls(float(scale.reshape(())), int(point.reshape(())), node.input[2], point.dtype)

    @property
    def lowest(self) -> int:
        """The smallest code."""
        return 0 if self.dtype == np.uint8 else -128

    @property
    def highest(self) -> int:
        """The largest code."""
        return self.lowest + 255


def is_plain(node: NodeProto | None) -> TypeGuard[NodeProto]:
    """Whether a node quantises or dequantises with a zero point, without blocks or types of its own."""
    return (
        node is not None
        and not node.domain
        and node.op_type in ("QuantizeLinear", "DequantizeLinear")
        and len(node.input) == 3
        and all(node.input)
        and is_usual(node)
    )


def is_usual(node: NodeProto) -> bool:
    """Whether a node that quantises or dequantises has no blocks or types of its own."""
    return not any(a.name in _UNUSUAL and a.i for a in node.attribute)
