"""Normalisations that a model has in pieces, as one workload each: RMSNorm and LayerNorm over the last axis.

``x / √(mean(x²) + eps) · w``, with x less its mean and a bias for LayerNorm: how exporters write what an opset lacks.
"""

from __future__ import annotations

import math

from onnx import GraphProto, NodeProto

from fettle.graph.errors import InvalidWorkload
from fettle.graph.onnx.patterns.facts import Facts, Match, NoWorkload, is_row
from fettle.graph.onnx.patterns.fuse import Piece
from fettle.graph.onnx.patterns.match import shortest
from fettle.graph.onnx.patterns.wiring import Wiring
from fettle.graph.workload import Workload


def find_norms(graph: GraphProto, facts: Facts) -> dict[str, Piece]:
    """Pieces of a graph that are normalisations, by the name of their last node."""
    finder, found = _Finder(Wiring(graph), facts), {}
    for node in graph.node:
        if node.op_type == "Sqrt" and not node.domain:
            piece = finder.around(node)
            if piece is not None:
                found[piece.last.name] = piece
    return found


class _Finder:
    def __init__(self, wiring: Wiring, facts: Facts) -> None:
        self._wiring, self._facts = wiring, facts

    def around(self, root: NodeProto) -> Piece | None:
        """The normalisation whose divisor a node computes."""
        try:
            return self._around(root)
        except (NoWorkload, InvalidWorkload):
            return None

    def _around(self, root: NodeProto) -> Piece | None:
        wiring, facts = self._wiring, self._facts
        plus = wiring.maker(root.input[0], "Add")
        constant = None if plus is None else next((n for n in plus.input if n in facts.scalars), None)
        if plus is None or constant is None:
            return None
        mean = wiring.maker(next(n for n in plus.input if n != constant), "ReduceMean")
        square = None if mean is None else wiring.maker(mean.input[0], "Pow", "Mul")
        if mean is None or square is None or not self._is_square(square):
            return None
        values = square.input[0]
        scaled = self._divided(values, root)
        if scaled is None or not self._over_last(mean, values):
            return None
        nodes = [square, mean, plus, root, *scaled]
        weight, nodes = self._with_constant(nodes, "Mul", values)
        if weight is None:
            return None
        rows, cols = math.prod(facts.shape(values)[:-1]), facts.shape(values)[-1]
        fields = {"rows": rows, "cols": cols, "act": "f32", "eps": shortest(facts.scalars[constant])}
        centred = self._centred(values, nodes)
        if centred is None:
            return self._piece(nodes, Match(Workload.of("rmsnorm", **fields), ((values,), (weight,))))
        bias, nodes = self._with_constant([*centred, *nodes], "Add", values)
        if bias is None:
            return None
        inputs = ((centred[-1].input[0],), (weight,), (bias,))
        return self._piece(nodes, Match(Workload.of("layernorm", **fields), inputs))

    def _piece(self, nodes: list[NodeProto], match: Match) -> Piece | None:
        inner = [name for node in nodes[:-1] for name in node.output]
        return Piece(tuple(nodes), match) if all(self._wiring.is_private(name, nodes) for name in inner) else None

    def _is_square(self, node: NodeProto) -> bool:
        if node.op_type == "Mul":
            return node.input[0] == node.input[1]
        return self._facts.scalars.get(node.input[1]) == 2.0

    def _over_last(self, mean: NodeProto, values: str) -> bool:
        """Whether a mean is taken over the last axis, which stays with length one."""
        shape = self._facts.shape(values)
        return self._facts.shape(mean.output[0]) == (*shape[:-1], 1) != shape

    def _divided(self, values: str, root: NodeProto) -> list[NodeProto] | None:
        """The nodes that divide values by a root: at once, or by way of its reciprocal."""
        reader = self._wiring.only_reader(root.output[0], "Div", "Reciprocal")
        if reader is None:
            return None
        if reader.op_type == "Div" and list(reader.input) == [values, root.output[0]]:
            return [reader]
        if reader.op_type == "Div" and self._facts.scalars.get(reader.input[0]) != 1.0:
            return None
        product = self._wiring.only_reader(reader.output[0], "Mul")
        return [reader, product] if product is not None and values in product.input else None

    def _with_constant(self, nodes: list[NodeProto], operator: str, values: str) -> tuple[str | None, list[NodeProto]]:
        """The constant row that the one reader multiplies or adds, and the nodes with this reader."""
        name, columns = nodes[-1].output[0], self._facts.shape(values)[-1]
        reader = self._wiring.only_reader(name, operator)
        rows = [] if reader is None else [other for other in reader.input if other != name]
        if reader is None or len(rows) != 1 or rows[0] not in self._facts.constants:
            return None, nodes
        return (rows[0], [*nodes, reader]) if is_row(self._facts.shape(rows[0]), columns) else (None, nodes)

    def _centred(self, values: str, nodes: list[NodeProto]) -> list[NodeProto] | None:
        """[mean, difference] if the values are something less its mean, and these nodes alone read them."""
        difference = self._wiring.maker(values, "Sub")
        if difference is None or not self._wiring.is_private(values, nodes):
            return None
        mean = self._wiring.maker(difference.input[1], "ReduceMean")
        if mean is None or mean.input[0] != difference.input[0] or not self._over_last(mean, values):
            return None
        return [mean, difference]
