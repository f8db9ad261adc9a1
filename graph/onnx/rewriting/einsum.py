"""Einsum of two tensors as Transpose, Reshape and MatMul, which kernels and patterns know."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from onnx import NodeProto, helper

from fettle.graph.onnx.rewriting.workbench import Workbench
from fettle.graph.onnx.shapes import TensorType


def as_product(node: NodeProto, bench: Workbench, types: dict[str, TensorType]) -> list[NodeProto]:
    """The node as a product ``[batch …, rows, inner] · [batch …, inner, columns]``; itself where it is none.

    Indices of both operands and the result are axes of their own, so that heads of attention stay one; those of one
    operand and the result are rows or columns, those of both operands alone are summed.

    Args:
        types: gets those of new tensors.
    """
    if node.op_type != "Einsum" or node.domain or len(node.input) != 2:
        return [node]
    (equation,) = (helper.get_attribute_value(a).decode() for a in node.attribute if a.name == "equation")
    left, right, result = _indices(equation)
    shapes = [types[name].shape if name in types else None for name in node.input]
    if not result or shapes[0] is None or shapes[1] is None:
        return [node]
    sizes = dict(zip(left + right, (*shapes[0], *shapes[1]), strict=False))
    if any(sizes[i] != size for i, size in zip(left, shapes[0], strict=False)):
        return [node]  # an extent of one that stands for any
    shared = [i for i in result if i in left and i in right]
    rows, columns = ([i for i in result if i in own and i not in shared] for own in (left, right))
    inner = [i for i in left if i not in result]
    if not inner or sorted(inner) != sorted(i for i in right if i not in result) or len(result) != len(set(result)):
        return [node]
    writer = _Writer(node, bench, types)
    element = types[node.input[0]].element
    groups = [[shared, rows, inner], [shared, inner, columns]]
    operands = [
        writer.arranged(name, own, group, sizes, element)
        for name, own, group in zip(node.input, (left, right), groups, strict=True)
    ]
    axes = [sizes[i] for i in shared]
    shape = [*axes, *(math.prod(sizes[i] for i in group) for group in (rows, columns))]
    product = writer.add("MatMul", operands, shape, element)
    whole = [*shared, *rows, *columns]
    if len(rows) != 1 or len(columns) != 1:
        product = writer.reshaped(product, [sizes[i] for i in whole], element)
    if whole != list(result):
        perm = [whole.index(i) for i in result]
        writer.add("Transpose", [product], [sizes[i] for i in result], element, perm=perm)
    return writer.done()


def _indices(equation: str) -> tuple[str, str, str]:
    """Of both operands and of the result; empty where an index is repeated or axes are left out."""
    operands, arrow, result = equation.replace(" ", "").partition("->")
    left, _, right = operands.partition(",")
    plain = all(text.isalpha() and len(set(text)) == len(text) for text in (left, right, result))
    return (left, right, result) if arrow and plain else ("", "", "")


class _Writer:
    """Nodes in the place of one."""

    def __init__(self, node: NodeProto, bench: Workbench, types: dict[str, TensorType]) -> None:
        self._node, self._bench, self._types = node, bench, types
        self._nodes: list[NodeProto] = []

    def add(self, operator: str, inputs: Sequence[str], shape: Sequence[int], element: int, **attributes: Any) -> str:
        """A node whose result has this type; returns the result's name."""
        name = self._bench.fresh(f"{self._node.output[0]}_{operator.lower()}")
        self._types[name] = TensorType(element, tuple(shape))
        self._nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def reshaped(self, tensor: str, shape: Sequence[int], element: int) -> str:
        """The same elements in another shape."""
        return self.add("Reshape", [tensor, self._bench.constant(f"{tensor}_shape", list(shape))], shape, element)

    def arranged(
        self, tensor: str, own: str, groups: Sequence[Sequence[str]], sizes: dict[str, int], element: int
    ) -> str:
        """An operand with its axes in the order of ``groups``, of which the last two are one axis each."""
        order = [i for group in groups for i in group]
        if order != list(own):
            perm = [own.index(i) for i in order]
            tensor = self.add("Transpose", [tensor], [sizes[i] for i in order], element, perm=perm)
        if any(len(group) != 1 for group in groups[1:]):
            joined = [math.prod(sizes[i] for i in group) for group in groups[1:]]
            tensor = self.reshaped(tensor, [*(sizes[i] for i in groups[0]), *joined], element)
        return tensor

    def done(self) -> list[NodeProto]:
        """The nodes; the last one's result is the node's."""
        del self._types[self._nodes[-1].output[0]]
        self._nodes[-1].output[0] = self._node.output[0]
        return self._nodes
