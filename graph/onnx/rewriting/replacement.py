"""The nodes that take the place of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onnx import NodeProto, TensorProto, helper

from fettle.graph.onnx.rewriting.workbench import Workbench
from fettle.graph.onnx.shapes import TensorType


class Replacement:
    """Nodes that together compute the only result of ``node``.

    Args:
        types: gets those of new tensors.
        element: of new tensors.
    """

    def __init__(
        self, node: NodeProto, bench: Workbench, types: dict[str, TensorType], element: int = TensorProto.FLOAT
    ) -> None:
        self.node, self.bench = node, bench
        self.nodes: list[NodeProto] = []
        self._types, self._element = types, element

    def add(self, operator: str, inputs: Sequence[str], shape: Sequence[int], **attributes: Any) -> str:
        """A node whose result has this shape; returns the result's name."""
        result = self.bench.fresh(f"{self.node.output[0]}_{operator.lower()}")
        self._types[result] = TensorType(self._element, tuple(shape))
        self.nodes.append(helper.make_node(operator, inputs, [result], name=result, **attributes))
        return result

    def reshaped(self, tensor: str, shape: Sequence[int]) -> str:
        """The same elements in another shape."""
        return self.add("Reshape", [tensor, self.bench.constant(f"{tensor}_shape", list(shape))], shape)

    def done(self) -> list[NodeProto]:
        """The nodes; the last one's result is the replaced node's."""
        last = self.nodes[-1]
        del self._types[last.output[0]]
        last.output[0] = self.node.output[0]
        return self.nodes
