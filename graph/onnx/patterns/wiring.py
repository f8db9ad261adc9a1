"""Who makes and who reads each tensor of a graph, for passes that look for patterns."""

from __future__ import annotations

from collections.abc import Iterable

from onnx import GraphProto, NodeProto

from fettle.graph.onnx.protos import reads


class Wiring:
    """Producers and readers of the tensors of a graph, as it was when this was made."""

    def __init__(self, graph: GraphProto) -> None:
        self.outputs = {value.name for value in graph.output}
        self._makers = {name: node for node in graph.node for name in node.output if name}
        self._readers: dict[str, dict[str, NodeProto]] = {}
        for node in graph.node:
            for name in reads(node):
                self._readers.setdefault(name, {})[node.name] = node

    def maker(self, name: str, *operators: str) -> NodeProto | None:
        """The node of the default domain that makes a tensor, if it is one of these operators and has one result."""
        node = self._makers.get(name)
        if node is None or node.domain or node.op_type not in operators or len(node.output) != 1:
            return None
        return node

    def readers(self, name: str) -> list[NodeProto]:
        """Nodes that read a tensor."""
        return list(self._readers.get(name, {}).values())

    def only_reader(self, name: str, *operators: str) -> NodeProto | None:
        """The one node of the default domain that reads a tensor, if it is one of these operators."""
        found = self.readers(name)
        if len(found) != 1 or name in self.outputs or found[0].domain or found[0].op_type not in operators:
            return None
        return found[0]

    def is_private(self, name: str, nodes: Iterable[NodeProto]) -> bool:
        """Whether these nodes alone read a tensor."""
        return name not in self.outputs and self._readers.get(name, {}).keys() <= {node.name for node in nodes}
