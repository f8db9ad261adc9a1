"""Fusing elementwise nodes: into the product whose result they alone read, or else into one another."""

from __future__ import annotations

from collections.abc import Iterable

import attrs
from onnx import GraphProto, NodeProto

from fettle.graph.graph import GraphNode
from fettle.graph.onnx.patterns.chains import VIEWS, Term
from fettle.graph.onnx.patterns.codes import converted, of_codes, reads_codes
from fettle.graph.onnx.patterns.epilogues import extend, node_term, takes_epilogue
from fettle.graph.onnx.patterns.facts import Facts, Match
from fettle.graph.onnx.patterns.match import elementwise
from fettle.graph.onnx.patterns.wiring import Wiring
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
    fusion.read_codes()
    return list(fusion.pieces.values())


class _Fusion:
    """Pieces so far.

    Attributes:
        pieces: by the name of their last node, in the graph's order.
    """

    def __init__(self, graph: GraphProto, facts: Facts) -> None:
        self.pieces: dict[str, Piece] = {}
        self._facts = facts
        self._wiring = Wiring(graph)
        self._made: dict[str, Piece] = {}  # may still be absorbed; by the tensor they produce
        self._conversions: dict[str, NodeProto] = {}  # of codes to floats; likewise
        self._views: dict[str, NodeProto] = {}  # nodes that only give a tensor another shape; likewise

    def add(self, piece: Piece) -> None:
        """Take in the next piece, fused with those before it."""
        if len(piece.nodes) == 1 and piece.reason != CONSTANT:
            piece = self._converted(piece)
            piece = self._with_product(piece, node_term(piece.last, self._facts))
        if piece.match is not None and piece.match.term is not None:
            piece = self._with_chains(piece, piece.match.term)
            piece = self._with_product(piece, piece.match.term if piece.match is not None else None)
        if piece.last.output and piece.last.output[0] not in self._wiring.outputs:
            if takes_epilogue(piece.match) or (piece.match is not None and piece.match.term is not None):
                self._made[piece.last.output[0]] = piece
            elif piece.match is None and not piece.last.domain and piece.last.op_type in VIEWS:
                self._views[piece.last.output[0]] = piece.last
        self.pieces[piece.last.name] = piece

    def read_codes(self) -> None:
        """Let elementwise pieces of numbers that codes alone stand for read these."""
        for name, piece in list(self.pieces.items()):
            if piece.match is None or piece.match.workload.operator != "elementwise":
                continue
            casts = {names[0]: self._conversions.get(names[0]) for names in piece.match.inputs}
            formats = {reads_codes(cast, self._facts) if cast is not None else "" for cast in casts.values()}
            private = all(self._wiring.is_private(tensor, piece.nodes) for tensor in casts)
            if not private or len(formats) != 1 or "" in formats:
                continue
            nodes = [cast for cast in casts.values() if cast is not None]
            sources = {cast.output[0]: cast.input[0] for cast in nodes}
            for cast in nodes:
                del self.pieces[cast.name]
            self.pieces[name] = Piece((*nodes, *piece.nodes), of_codes(piece.match, sources, formats.pop()))

    def _converted(self, piece: Piece) -> Piece:
        """A conversion with what it converts; one of codes to floats may go into what reads it, later."""
        if reads_codes(piece.last, self._facts):
            self._conversions[piece.last.output[0]] = piece.last
            return piece
        before = self._absorbable(piece.last.input[0], piece.nodes) if piece.last.input else None
        if before is None or before.match is None:
            return piece
        match = converted(before.match, piece.last, self._facts)
        if match is None:
            return piece
        self._absorb(before)
        return Piece((*before.nodes, *piece.nodes), match)

    def _absorbable(self, name: str, nodes: Iterable[NodeProto]) -> Piece | None:
        """The piece that makes a tensor which these nodes alone read, with the views between them."""
        inside = list(nodes)
        between: list[NodeProto] = []
        while self._wiring.is_private(name, inside):
            if name in self._made:
                made = self._made[name]
                return attrs.evolve(made, nodes=(*made.nodes, *between))
            if name not in self._views:
                return None
            between.insert(0, self._views[name])
            inside, name = between[:1], between[0].input[0]
        return None

    def _absorb(self, found: Piece) -> None:
        """Forget a piece and the views after it: another one stands for them now."""
        for node in found.nodes:
            self.pieces.pop(node.name, None)
            for name in node.output:
                self._made.pop(name, None)
                self._views.pop(name, None)

    def _with_product(self, piece: Piece, term: Term | None) -> Piece:
        """The piece as the epilogue of a product it reads, if it can be that."""
        for name in () if term is None else term.tensors():
            product = self._absorbable(name, piece.nodes)
            if term is not None and product is not None and product.match is not None and product.match.term is None:
                match = extend(product.match, name, term, piece.last.output[0], self._facts)
                if match is not None:
                    self._absorb(product)
                    return Piece((*product.nodes, *piece.nodes), match)
        return piece

    def _with_chains(self, piece: Piece, term: Term) -> Piece:
        """An elementwise piece with those that it alone reads, as far as one expression holds them."""
        nodes = piece.nodes
        names = list(term.tensors())
        while names:
            name = names.pop(0)
            chain = self._absorbable(name, nodes)
            if chain is None or chain.match is None or chain.match.term is None:
                continue
            longer = term.substitute(name, chain.match.term)
            if longer.fits and (term.count(name) == 1 or chain.match.term.is_arithmetic):
                term, nodes = longer, (*chain.nodes, *nodes)
                self._absorb(chain)
                names = list(term.tensors())  # what others read before, these nodes alone may read now
        if nodes == piece.nodes:
            return piece
        return Piece(nodes, elementwise(term, self._facts.shape(piece.last.output[0])))
