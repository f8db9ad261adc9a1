"""Who makes and who reads each tensor, among nodes that are being rewritten."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from onnx import GraphProto, NodeProto

from fettle.graph.onnx.protos import reads


class Users:
    """Makers and readers, as they were when this was made. Nodes need no names yet."""

    def __init__(self, nodes: Sequence[NodeProto], graph: GraphProto) -> None:
        self._places = {id(node): place for place, node in enumerate(nodes)}
        self._outputs = {value.name for value in graph.output}
        self._makers = {name: node for node in nodes for name in node.output if name}
        self._readers: dict[str, list[NodeProto]] = {}
        for node in nodes:
            for name in reads(node):
                self._readers.setdefault(name, []).append(node)

    def maker(self, name: str, *operators: str) -> NodeProto | None:
        """The node of the default domain that makes a tensor, if it is one of these operators, or of any."""
        node = self._makers.get(name)
        if node is None or (operators and (node.domain or node.op_type not in operators)):
            return None
        return node

    def readers(self, name: str) -> list[NodeProto]:
        """Nodes that read a tensor."""
        return self._readers.get(name, [])

    def only_reader(self, name: str) -> NodeProto | None:
        """The one node that reads a tensor; None if it is an output of the model."""
        found = self.readers(name)
        return found[0] if len(found) == 1 and name not in self._outputs else None

    def private_maker(self, name: str, reader: NodeProto, *operators: str) -> NodeProto | None:
        """The maker of a tensor that this node alone reads, see :meth:`maker`."""
        return self.maker(name, *operators) if self.only_reader(name) is reader else None

    def are_private(self, name: str, nodes: Iterable[NodeProto]) -> bool:
        """Whether none but these nodes reads a tensor."""
        inside = {id(node) for node in nodes}
        return name not in self._outputs and all(id(reader) in inside for reader in self.readers(name))

    def in_order(self, nodes: Iterable[NodeProto]) -> list[NodeProto]:
        """Some of the nodes, makers before readers."""
        return sorted(nodes, key=lambda node: self._places[id(node)])

    def is_used(self, name: str) -> bool:
        """Whether a node reads a tensor, or the model gives it."""
        return name in self._outputs or bool(self.readers(name))
