"""Fusing elementwise nodes: into the product whose result they alone read, or else into one another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import attrs
from onnx import GraphProto, NodeProto

from fettle.graph.graph import GraphNode
from fettle.graph.onnx.chains import Term
from fettle.graph.onnx.epilogues import extend, takes_epilogue
from fettle.graph.onnx.match import Facts, Match, elementwise
from fettle.graph.onnx.protos import reads

CONSTANT = "computed once, from constants only"
"""The reason of a node that is no workload because nothing it reads changes between runs."""


@attrs.frozen
class Piece:
    """A graph node in the making: the model's nodes it covers, and its match or the reason for none."""

    nodes: tuple[NodeProto, ...]
    match: Match | None = None
    reason: str = ""

    @property
    def last(self) -> NodeProto:
        return self.nodes[-1]

    def graph_node(self) -> GraphNode:
        outputs = tuple(filter(None, self.last.output))
        covers = tuple(node.name for node in self.nodes)
        if self.match is None:
            inputs = tuple((name,) for name in reads(self.last))
            return GraphNode(self.last.name, covers, inputs, outputs, None, self.reason)
        return GraphNode(self.last.name, covers, self.match.inputs, outputs[:1], self.match.workload)


def fuse(graph: GraphProto, pieces: Iterable[Piece], facts: Facts) -> list[Piece]:
    """Merge each elementwise piece into the float product it alone reads, or else into its one consumer.

    The latter if that is elementwise too and the expression fits.

    Args:
        pieces: one for each node, in the graph's order.
    """
    fusion = _Fusion(graph, facts)
    for piece in pieces:
        fusion.add(piece)
    return list(fusion.pieces.values())


class _Fusion:
    """Pieces so far.

    Attributes:
        pieces: by the name of their last node, in the graph's order.
    """

    def __init__(self, graph: GraphProto, facts: Facts) -> None:
        self.pieces: dict[str, Piece] = {}
        self._facts = facts
        self._readers = Counter(name for node in graph.node for name in reads(node))
        self._outputs = {value.name for value in graph.output}
        self._products: dict[str, Piece] = {}  # may still get an epilogue; by the tensor they produce
        self._chains: dict[str, Piece] = {}  # may still be absorbed; likewise

    def add(self, piece: Piece) -> None:
        """Take in the next piece, fused with those before it."""
        piece = self._with_product(piece)
        output = piece.last.output[0] if piece.last.output else ""
        private = self._readers[output] == 1 and output not in self._outputs
        if private and takes_epilogue(piece.match):
            self._products[output] = piece
        if piece.match is not None and piece.match.term is not None:
            piece = self._with_chains(piece, piece.match.term)
            if private:
                self._chains[output] = piece
        self.pieces[piece.last.name] = piece

    def _with_product(self, piece: Piece) -> Piece:
        """The piece as the epilogue of a product it reads, if it can be that."""
        if len(piece.nodes) > 1 or piece.reason == CONSTANT:
            return piece
        for name in piece.last.input:
            product = self._products.get(name)
            if product is not None and product.match is not None:
                match = extend(product.match, name, piece.last, self._facts)
                if match is not None:
                    del self.pieces[product.last.name], self._products[name]
                    return Piece((*product.nodes, *piece.nodes), match)
        return piece

    def _with_chains(self, piece: Piece, term: Term) -> Piece:
        """An elementwise piece with those that it alone reads, as far as one expression holds them."""
        nodes = piece.nodes
        for name in term.tensors():
            chain = self._chains.get(name)
            if chain is None or chain.match is None or chain.match.term is None:
                continue
            longer = term.substitute(name, chain.match.term)
            if longer.fits:
                term, nodes = longer, (*chain.nodes, *nodes)
                del self.pieces[chain.last.name], self._chains[name]
        if nodes == piece.nodes:
            return piece
        return Piece(nodes, elementwise(term, self._facts.shape(piece.last.output[0])))
