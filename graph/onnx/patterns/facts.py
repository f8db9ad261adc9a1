"""What is known of a model's tensors, and what a node is found to be."""

from __future__ import annotations

import math
from collections.abc import Mapping

import attrs
from onnx import TensorProto

from fettle.graph.onnx.patterns.chains import Term
from fettle.graph.onnx.shapes import TensorType
from fettle.graph.workload import Workload

CODES: Mapping[int, str] = {TensorProto.UINT8: "u8", TensorProto.INT8: "i8"}
"""Formats of codes of 8 bits by ONNX's element types."""


class NoWorkload(Exception):
    """A node that is no workload; the message is the reason."""


@attrs.frozen
class Match:
    """A node as a workload.

    Attributes:
        inputs: tensor names of each operand of the workload.
        term: what an elementwise node computes, for fusing.
    """

    workload: Workload
    inputs: tuple[tuple[str, ...], ...]
    term: Term | None = None


@attrs.frozen(eq=False)
class Facts:
    """What is known about the tensors of a model.

    Attributes:
        types: element type and shape by name.
        constants: names of tensors that do not change between runs.
        scalars: values of the constants with one element.
        causal: constants that hide from each query the keys after it, when they are added to logits: the last query is
            at the last key.
        whole: constants along one axis that hold whole numbers alone.
    """

    types: Mapping[str, TensorType]
    constants: frozenset[str]
    scalars: Mapping[str, float]
    causal: frozenset[str] = frozenset()
    whole: frozenset[str] = frozenset()

    def shape(self, name: str, *elements: int) -> tuple[int, ...]:
        """Shape of a tensor of float32, or of one of these types; raises NoWorkload for an unknown shape or others."""
        kind = self.types.get(name)
        if kind is None or kind.shape is None:
            raise NoWorkload(f"the shape of {name!r} is not known before it runs")
        if kind.element not in (elements or (TensorProto.FLOAT,)):
            expected = " and ".join(map(_element, elements or (TensorProto.FLOAT,)))
            raise NoWorkload(f"{name!r} has element type {_element(kind.element)}; only {expected} is tuned")
        if 0 in kind.shape:
            raise NoWorkload(f"{name!r} is empty")
        return kind.shape


def is_row(shape: tuple[int, ...], columns: int) -> bool:
    """Whether a tensor of this shape holds one number for each column of what it is broadcast to."""
    return shape[-1:] == (columns,) and math.prod(shape) == columns


def _element(element: int) -> str:
    return str(TensorProto.DataType.Name(element))
