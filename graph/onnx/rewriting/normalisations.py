"""Normalisations in terms of what kernels do: LayerNormalization with a bias, and factors and offsets of channels.

A factor and an offset for each channel of an image is a convolution in as many groups with filters of one element, so
that what follows is its epilogue.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np
from onnx import NodeProto, TensorProto, numpy_helper

from fettle.graph.onnx.protos import integer, number
from fettle.graph.onnx.rewriting.replacement import Replacement
from fettle.graph.onnx.rewriting.workbench import Workbench
from fettle.graph.onnx.shapes import TensorType

_CONVOLVED = (3, 4)
"""Axes of images of one and two dimensions."""


def normalised(
    node: NodeProto, bench: Workbench, types: dict[str, TensorType], constants: Collection[str]
) -> list[NodeProto]:
    """A normalisation by constants in other operators; the node itself where it is none, or cannot be written so.

    * LayerNormalization without a bias gets one of zeros.
    * GroupNormalization and InstanceNormalization: LayerNormalization of groups as rows, then factors of channels.
    * BatchNormalization that no convolution took in: factors of channels.

    Args:
        types: gets those of new tensors.
        constants: names of tensors that do not change between runs.
    """
    maker = _MAKERS.get(node.op_type)
    kind = types.get(node.input[0]) if node.input else None
    if maker is None or node.domain or kind is None or kind.shape is None or kind.element != TensorProto.FLOAT:
        return [node]
    if 0 in kind.shape or any(name not in constants for name in node.input[1:] if name) or any(node.output[1:]):
        return [node]
    made = maker(_Site(node, kind.shape, bench, types))
    return made or [node]


class _Site(Replacement):
    """What takes the place of a normalisation of a tensor of ``shape``."""

    def __init__(self, node: NodeProto, shape: tuple[int, ...], bench: Workbench, types: dict[str, TensorType]) -> None:
        super().__init__(node, bench, types)
        self.shape = shape

    def filled(self, value: float, size: int) -> str:
        """A constant row."""
        stored = numpy_helper.from_array(np.array([value], np.float32))
        return self.add("ConstantOfShape", [self.bench.constant("row_shape", [size])], [size], value=stored)

    def by_channel(self, x: str, factor: str, offset: str) -> None:
        """x · factor + offset, of one number for each channel; see the head of this file."""
        channels, ones = self.shape[1], [1] * (len(self.shape) - 2)
        if len(self.shape) in _CONVOLVED:
            filters = self.reshaped(factor, [channels, 1, *ones])
            self.add("Conv", [x, filters, offset], self.shape, group=channels)
        else:
            rows = [self.reshaped(name, [channels, *ones]) for name in (factor, offset)]
            self.add("Add", [self.add("Mul", [x, rows[0]], self.shape), rows[1]], self.shape)


def _with_bias(site: _Site) -> list[NodeProto]:
    node, axis = site.node, integer(site.node, "axis", -1)
    if (len(node.input) > 2 and node.input[2]) or not -len(site.shape) <= axis < len(site.shape):
        return []
    size = math.prod(site.shape[axis:])
    zeros = site.filled(0.0, size)
    if axis % len(site.shape) != len(site.shape) - 1:
        zeros = site.reshaped(zeros, site.shape[axis:])
    biased = NodeProto()
    biased.CopyFrom(node)
    del biased.input[2:]
    biased.input.append(zeros)
    return [*site.nodes, biased]


def _of_groups(site: _Site) -> list[NodeProto]:
    node, shape = site.node, site.shape
    groups = integer(node, "num_groups") if node.op_type == "GroupNormalization" else shape[1]
    known = [site.bench.constants.get(name) for name in node.input[1:]]
    if len(shape) < 3 or shape[1] % groups or any(kind is not None and kind[1] != shape[1:2] for kind in known):
        return []  # before opset 21, factors are those of groups
    rows, columns = shape[0] * groups, math.prod(shape[1:]) // groups
    inputs = [site.reshaped(node.input[0], [rows, columns]), site.filled(1.0, columns), site.filled(0.0, columns)]
    epsilon = float(number(node, "epsilon", 1e-5))
    result = site.reshaped(site.add("LayerNormalization", inputs, [rows, columns], axis=-1, epsilon=epsilon), shape)
    values = [site.bench.value(name) for name in node.input[1:]]
    if any(array is None or (array != neutral).any() for array, neutral in zip(values, (1.0, 0.0), strict=True)):
        site.by_channel(result, *node.input[1:])
    return site.done()


def _of_statistics(site: _Site) -> list[NodeProto]:
    node, size = site.node, site.shape[1:2]
    if integer(node, "training_mode", 0) or not integer(node, "spatial", 1) or len(site.shape) < 2:
        return []
    x, scale, offset, mean, variance = node.input
    epsilon = site.bench.constant("epsilon", np.array(number(node, "epsilon", 1e-5), np.float32))
    deviation = site.add("Sqrt", [site.add("Add", [variance, epsilon], size)], size)
    factor = site.add("Div", [scale, deviation], size)
    site.by_channel(x, factor, site.add("Sub", [offset, site.add("Mul", [mean, factor], size)], size))
    return site.done()


_MAKERS = {
    "LayerNormalization": _with_bias,
    "GroupNormalization": _of_groups,
    "InstanceNormalization": _of_groups,
    "BatchNormalization": _of_statistics,
}
