"""Scaled dot-product attention that a model has in pieces, or with keys copied for every head, as one workload each.

Exporters write, in many ways, ``softmax(scale · q · kᵀ + mask) · v``: factors before or after the product, keys that
went through reshapes and transpositions, guards for queries that see nothing. Grouped heads are written by copying keys
and values (Unsqueeze, Expand, Reshape); the kernels need no copies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import attrs
import numpy as np
from onnx import GraphProto, NodeProto, helper

from fettle.graph.errors import InvalidWorkload
from fettle.graph.onnx.patterns.chains import VIEWS
from fettle.graph.onnx.patterns.facts import Facts, NoWorkload
from fettle.graph.onnx.patterns.fuse import Piece
from fettle.graph.onnx.patterns.match import attention, four_axes, match
from fettle.graph.onnx.patterns.wiring import Wiring
from fettle.graph.onnx.protos import integer

_MOVES = (*VIEWS, "Transpose", "Expand")

_MOST_TRACED = 2**24
"""Elements of keys whose way is followed: one by one."""


def find_attention(graph: GraphProto, facts: Facts) -> dict[str, Piece]:
    """Pieces of a graph that are attention, by the name of their last node."""
    finder = _Finder(graph, facts)
    found = {}
    for node in graph.node:
        piece = None
        if node.op_type == "Softmax" and not node.domain:
            piece = finder.around(node)
        elif node.op_type == "Attention" and not node.domain:
            piece = finder.around_node(node)
        if piece is not None:
            found[piece.last.name] = piece
    return found


@attrs.frozen
class _Way:
    """What one operand came through: from a tensor, by these nodes, multiplied with a factor."""

    source: str
    nodes: tuple[NodeProto, ...] = ()
    factor: float = 1.0


class _Finder:
    def __init__(self, graph: GraphProto, facts: Facts) -> None:
        self._wiring, self._facts = Wiring(graph), facts
        self._order = {node.name: number for number, node in enumerate(graph.node)}

    def around(self, softmax: NodeProto) -> Piece | None:
        """The attention whose probabilities a node computes."""
        try:
            return self._around(softmax)
        except (NoWorkload, InvalidWorkload):
            return None

    def around_node(self, node: NodeProto) -> Piece | None:
        """An Attention node with the factors before it, without the copies of keys and values that its heads share."""
        try:
            return self._around_node(node)
        except (NoWorkload, InvalidWorkload):
            return None

    def _around_node(self, node: NodeProto) -> Piece | None:
        found = match(node, self._facts)
        values, shape = found.workload, self._facts.shape(node.input[1])
        q, k = (self._scaled(name, node) for name in node.input[:2])
        k_readers, keys, v = [*k.nodes, node], _Way(k.source), _Way(node.input[2])
        if values["kv_heads"] == values["heads"]:
            keys = self._grouped(k.source, shape, k_readers, lambda e: e)
            v = self._grouped(v.source, shape, [node], lambda e: e)
        nodes = self._sorted([node, *(n for way in (q, k, keys, v) for n in way.nodes)])
        if self._facts.shape(keys.source) != self._facts.shape(v.source) or len(nodes) == 1:
            return None
        mask = found.inputs[3][0] if len(found.inputs) > 3 else ""
        scale = values["scale"] * q.factor * k.factor
        return Piece(nodes, attention((q.source, keys.source, v.source, mask), scale, values["causal"], self._facts))

    def _around(self, softmax: NodeProto) -> Piece | None:
        facts = self._facts
        rank = len(facts.shape(softmax.input[0]))
        if rank not in (3, 4) or integer(softmax, "axis", -1) not in (-1, rank - 1):
            return None
        after = self._product_of(softmax.output[0])
        before = self._logits(softmax.input[0], softmax)
        if after is None or before is None:
            return None
        product, nodes, mask, scale = before
        q = self._scaled(product.input[0], product)
        k = self._scaled(product.input[1], product)
        (batch, heads, _, dim), (*_, kv) = four_axes(q.source, facts), facts.shape(softmax.input[0])
        size = facts.shape(after[-1].input[1])[-1]
        v = self._grouped(after[-1].input[1], (batch, heads, kv, size), [after[-1]], lambda e: e)
        keys = self._grouped(k.source, (batch, heads, kv, dim), [*k.nodes, product], lambda e: e.swapaxes(2, 3))
        if four_axes(keys.source, facts) != four_axes(v.source, facts):
            return None
        scale *= q.factor * k.factor
        found = attention((q.source, keys.source, v.source, mask), scale, False, facts)
        inside = self._sorted([softmax, product, *nodes, *after, *q.nodes, *k.nodes, *keys.nodes, *v.nodes])
        return Piece(inside, found) if inside[-1] is after[-1] else None

    def _product_of(self, name: str) -> list[NodeProto] | None:
        """The nodes from probabilities to the product with the values: it alone, or a guard against NaN before it."""
        readers = self._wiring.readers(name)
        guards = [node for node in readers if node.op_type == "IsNaN"]
        if len(readers) == 2 and len(guards) == 1:
            where = self._wiring.only_reader(guards[0].output[0], "Where")
            if where is None or where not in readers or where.input[2] != name:
                return None
            if self._facts.scalars.get(where.input[1]) != 0.0 or not self._wiring.is_private(name, readers):
                return None
            name, guards = where.output[0], [*guards, where]
        product = self._wiring.only_reader(name, "MatMul")
        if product is None or product.input[0] != name or product.input[1] == name:
            return None
        return [*guards, product]

    def _logits(self, name: str, reader: NodeProto) -> tuple[NodeProto, list[NodeProto], str, float] | None:
        """(product of queries and keys, nodes after it, mask or empty, factor) that make logits."""
        nodes: list[NodeProto] = []
        mask, scale = "", 1.0
        while True:
            node = self._wiring.maker(name, "Add", "Mul", "Div", "MatMul")
            if node is None or not self._wiring.is_private(name, [reader]):
                return None
            if node.op_type == "MatMul":
                return node, nodes, mask, scale
            if node.op_type == "Add":
                sides = [i for i in (0, 1) if self._wiring.maker(node.input[i], "MatMul", "Mul", "Div") is not None]
                if mask or not sides or scale != 1.0:  # a factor after the mask multiplies the mask, too
                    return None
                side = next((i for i in sides if self._wiring.maker(node.input[i], "MatMul")), sides[0])
                name, mask = node.input[side], node.input[1 - side]
            else:
                way = self._by_number(node)
                if way is None or self._facts.shape(way.source) != self._facts.shape(name):
                    return None
                name, scale = way.source, scale * way.factor
            nodes.append(node)
            reader = node

    def _by_number(self, node: NodeProto) -> _Way | None:
        """A product with, or a quotient by, a number."""
        left, right = node.input
        scalars = self._facts.scalars
        if right in scalars and (node.op_type == "Mul" or scalars[right] != 0.0):
            return _Way(left, (node,), scalars[right] if node.op_type == "Mul" else 1.0 / scalars[right])
        if left in scalars and node.op_type == "Mul":
            return _Way(right, (node,), scalars[left])
        return None

    def _scaled(self, name: str, reader: NodeProto) -> _Way:
        """The tensor from which an operand is made by a factor that it alone has."""
        node = self._wiring.maker(name, "Mul", "Div")
        way = None if node is None else self._by_number(node)
        if way is None or not self._wiring.is_private(name, [reader]):
            return _Way(name)
        if self._facts.shape(way.source) != self._facts.shape(name):
            return _Way(name)
        return way

    def _grouped(
        self,
        name: str,
        shape: tuple[int, ...],
        readers: list[NodeProto],
        arrange: Callable[[np.ndarray], np.ndarray],
    ) -> _Way:
        """The way to the tensor ``[batch, kv_heads, positions, size]`` from which an operand is made: the farthest.

        Args:
            shape: ``[batch, heads, positions, size]``.
            arrange: an array of this shape -> as the operand has it.

        Raises:
            NoWorkload: there is none.
        """
        best = None
        if math.prod(shape) > _MOST_TRACED:
            raise NoWorkload(f"{name!r} is too large to be followed")
        for way in self._ways(name, readers):
            actual = self._facts.shape(way.source)
            if len(actual) not in (3, 4):
                continue
            source = four_axes(way.source, self._facts)
            if (source[0], *source[2:]) != (shape[0], *shape[2:]) or shape[1] % source[1]:
                continue
            start = np.arange(np.prod(source), dtype=np.int32).reshape(source)
            expected = arrange(np.repeat(start, shape[1] // source[1], axis=1))
            moved = self._moved(start.reshape(actual), way.nodes)
            moved = moved.reshape((1,) * (4 - moved.ndim) + moved.shape)
            # the product itself may repeat one head of keys or values for all
            if (moved.shape[0], *moved.shape[2:]) == (expected.shape[0], *expected.shape[2:]) and (
                (moved.shape[1] in (1, shape[1])) and (moved == expected).all()
            ):
                best = way
        if best is None:
            raise NoWorkload(f"{name!r} is not made of keys or values by moving them")
        return best

    def _ways(self, name: str, readers: list[NodeProto]) -> Iterator[_Way]:
        """Tensors from which one is made by moving elements, in steps that nobody else needs."""
        way = _Way(name)
        yield way
        while (node := self._wiring.maker(way.source, *_MOVES)) is not None:
            if not self._wiring.is_private(way.source, readers):
                return
            if math.prod(self._facts.shape(way.source)) > _MOST_TRACED:
                return
            way, readers = _Way(node.input[0], (node, *way.nodes)), [node]
            yield way

    def _moved(self, array: np.ndarray, nodes: tuple[NodeProto, ...]) -> np.ndarray:
        for node in nodes:
            if node.op_type == "Transpose":
                perms = [helper.get_attribute_value(a) for a in node.attribute if a.name == "perm"]
                array = array.transpose(perms[0] if perms else None)
            elif node.op_type == "Expand":
                array = np.broadcast_to(array, self._facts.shape(node.output[0]))
            else:
                array = array.reshape(self._facts.shape(node.output[0]))
        return array

    def _sorted(self, nodes: list[NodeProto]) -> tuple[NodeProto, ...]:
        by_name: Mapping[str, NodeProto] = {node.name: node for node in nodes}
        return tuple(sorted(by_name.values(), key=lambda node: self._order[node.name]))
