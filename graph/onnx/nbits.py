"""The attributes of com.microsoft.MatMulNBits, which no checker knows."""

from __future__ import annotations

import attrs
from onnx import NodeProto

from fettle.graph.errors import InvalidGraph
from fettle.graph.onnx.protos import MICROSOFT, integer


def is_nbits(node: NodeProto) -> bool:
    """Whether a node is a MatMulNBits."""
    return node.op_type == "MatMulNBits" and node.domain == MICROSOFT


@attrs.frozen
class NBits:
    """``y[…, N] = x[…, K] · W[N, K]ᵀ``, W of ``bits`` bits in blocks of ``block`` along K.

    Attributes:
        accuracy: what activations may be rounded to: 0 unset, 1 f32, 2 f16, 3 bf16, 4 int8.
    """

    k: int
    n: int
    bits: int
    block: int
    accuracy: int

    @classmethod
    def of(cls, node: NodeProto) -> NBits:
        """The attributes of a node.

        Raises:
            InvalidGraph: they, or the node's inputs and outputs, are not those of a MatMulNBits.
        """
        result = cls(
            integer(node, "K"),
            integer(node, "N"),
            integer(node, "bits", 4),
            integer(node, "block_size"),
            integer(node, "accuracy_level", 0),
        )
        in_range = min(result.k, result.n) >= 1 and 2 <= result.bits <= 8 and 16 <= result.block <= 65536
        if not in_range or result.block & (result.block - 1):
            raise InvalidGraph(
                f"node {node.name!r}: {result} is out of range", hint="bits 2…8, block_size a power of two from 16"
            )
        if not 3 <= len(node.input) <= 6 or not all(node.input[:3]) or len(node.output) != 1:
            raise InvalidGraph(f"node {node.name!r}: MatMulNBits has 3 to 6 inputs and one output")
        return result
