"""Einsum of two tensors as Transpose, Reshape and MatMul, which kernels and patterns know."""

from __future__ import annotations

import math
from collections.abc import Sequence

from onnx import NodeProto, helper

from fettle.graph.onnx.rewriting.replacement import Replacement
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
    made = Replacement(node, bench, types, types[node.input[0]].element)
    groups = [[shared, rows, inner], [shared, inner, columns]]
    operands = [
        _arranged(made, name, own, group, sizes)
        for name, own, group in zip(node.input, (left, right), groups, strict=True)
    ]
    axes = [sizes[i] for i in shared]
    shape = [*axes, *(math.prod(sizes[i] for i in group) for group in (rows, columns))]
    product = made.add("MatMul", operands, shape)
    whole = [*shared, *rows, *columns]
    if len(rows) != 1 or len(columns) != 1:
        product = made.reshaped(product, [sizes[i] for i in whole])
    if whole != list(result):
        made.add("Transpose", [product], [sizes[i] for i in result], perm=[whole.index(i) for i in result])
    return made.done()


def _indices(equation: str) -> tuple[str, str, str]:
    """Of both operands and of the result; empty where an index is repeated or axes are left out."""
    operands, arrow, result = equation.replace(" ", "").partition("->")
    left, _, right = operands.partition(",")
    plain = all(text.isalpha() and len(set(text)) == len(text) for text in (left, right, result))
    return (left, right, result) if arrow and plain else ("", "", "")


def _arranged(made: Replacement, tensor: str, own: str, groups: Sequence[Sequence[str]], sizes: dict[str, int]) -> str:
    """An operand with its axes in the order of ``groups``, of which the last two are one axis each."""
    order = [i for group in groups for i in group]
    if order != list(own):
        tensor = made.add("Transpose", [tensor], [sizes[i] for i in order], perm=[own.index(i) for i in order])
    if any(len(group) != 1 for group in groups[1:]):
        joined = [math.prod(sizes[i] for i in group) for group in groups[1:]]
        tensor = made.reshaped(tensor, [*(sizes[i] for i in groups[0]), *joined])
    return tensor
