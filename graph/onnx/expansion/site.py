"""A node that is to be written in other operators: what is known of it, and the nodes in its place."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from fettle.graph.onnx.protos import FETTLE
from fettle.graph.onnx.rewriting.workbench import Workbench
from fettle.graph.onnx.shapes import TensorType


class NotUnderstood(Exception):
    """A node that stays as it is; the message names the input or the attribute that is the reason."""


class Site:
    """One node and its inputs by name; new nodes and constants are kept until somebody takes them.

    Attributes:
        node: what is to be replaced.
        opset: of the default domain.
        nodes: what replaces it, so far; names begin like its own.
        constants: new initializers.
    """

    def __init__(
        self, node: NodeProto, inputs: Sequence[str], bench: Workbench, types: Mapping[str, TensorType], opset: int
    ) -> None:
        self.node, self.opset = node, opset
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self._bench, self._types = bench, types
        self._operator = f"{node.domain}.{node.op_type}".lstrip(".")
        self._inputs = dict(zip(inputs, [*node.input, *[""] * len(inputs)], strict=False))
        self._excess = node.input[len(inputs) :]
        self._names: Iterator[str] = (bench.fresh(f"{node.name}/{number}") for number in range(1 << 30))

    def __getitem__(self, label: str) -> str:
        """The tensor at an input; empty where there is none."""
        return self._inputs[label]

    def output(self, index: int) -> str:
        """The tensor of a result; empty where nobody asks for it."""
        return self.node.output[index] if index < len(self.node.output) else ""

    def check(
        self, inputs: Collection[str], attributes: Collection[str], neutral: Mapping[str, Collection[Any]]
    ) -> None:
        """Refuse inputs and attributes that are not understood.

        Args:
            inputs: those that are.
            attributes: those that are.
            neutral: values of other attributes, by their names, that change nothing.
        """
        for label, name in (*self._inputs.items(), *(("more inputs", name) for name in self._excess)):
            if name and label not in inputs:
                raise self.refusal(label)
        for attribute in self.node.attribute:
            value = helper.get_attribute_value(attribute)
            if attribute.name not in attributes and value not in neutral.get(attribute.name, ()):
                raise self.refusal(f"{attribute.name}={value.decode() if isinstance(value, bytes) else value}")

    def refusal(self, what: str) -> NotUnderstood:
        """The exception that names what is not understood."""
        return NotUnderstood(f"{self._operator} with {what}")

    def shape(self, label: str, rank: int | None = None) -> tuple[int, ...]:
        """Shape of a float32 input; of as many axes as ``rank`` says."""
        kind = self._types.get(self[label])
        if not self[label]:
            raise NotUnderstood(f"{self._operator} without {label}")
        if kind is None or kind.shape is None:
            raise self.refusal(f"{label} of a shape that is not known before it runs")
        if kind.element != TensorProto.FLOAT:
            raise self.refusal(f"{label} of element type {TensorProto.DataType.Name(kind.element)}")
        if rank not in (None, len(kind.shape)):
            raise self.refusal(f"{label} of shape {list(kind.shape)}")
        return kind.shape

    def kind(self, label: str) -> TensorType | None:
        """What is known of an input."""
        return self._types.get(self[label])

    def known_shape(self, name: str) -> tuple[int, ...] | None:
        """Shape of any tensor, if the model says it."""
        kind = self._types.get(name)
        return None if kind is None else kind.shape

    def value(self, label: str) -> np.ndarray | None:
        """An input that is a constant in memory; None for any other."""
        return self._bench.value(self[label])

    def check_size(self, elements: int) -> None:
        """Refuse to write down a constant that is absurdly large."""
        if elements > _LARGEST:
            raise self.refusal(f"a mask or positions of {elements} elements")

    def add(self, operator: str, *inputs: str, result: str = "", domain: str = "", **attributes: Any) -> str:
        """A node; returns the name of its result, which is ``result`` if that is given."""
        name = next(self._names)
        result = result or name
        self.nodes.append(helper.make_node(operator, inputs, [result], name=name, domain=domain, **attributes))
        return result

    def constant(self, value: np.ndarray | np.generic | Sequence[int]) -> str:
        """An initializer, of int64 unless an array says otherwise; returns its name."""
        name = next(self._names)
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def reshaped(self, tensor: str, *shape: int, result: str = "") -> str:
        """The same elements in another shape."""
        return self.add("Reshape", tensor, self.constant(shape), result=result)

    def cut(self, tensor: str, sizes: Sequence[int]) -> list[str]:
        """Parts of a tensor that follow each other along its last axis."""
        ends = np.cumsum(sizes)
        axis = self.constant([-1])
        return [
            self.add("Slice", tensor, self.constant([end - size]), self.constant([end]), axis)
            for size, end in zip(sizes, ends, strict=True)
        ]

    def heads(self, tensor: str, shape: tuple[int, int, int], count: int) -> str:
        """``[batch, positions, count · size]`` -> ``[batch, count, positions, size]``."""
        batch, positions, width = shape
        split = self.reshaped(tensor, batch, positions, count, width // count)
        return self.add("Transpose", split, perm=[0, 2, 1, 3])

    def joined(self, tensor: str, batch: int, positions: int, width: int) -> str:
        """``[batch, heads, positions, size]`` -> ``[batch, positions, width]``, the node's first result."""
        turned = self.add("Transpose", tensor, perm=[0, 2, 1, 3])
        return self.reshaped(turned, batch, positions, width, result=self.output(0))

    def rotated(self, tensor: str, cos: str, sin: str, positions: str, **attributes: Any) -> str:
        """ONNX's RotaryEmbedding of ``[batch, heads, positions, size]``."""
        domain = "" if self.opset >= _ROTARY_SINCE else FETTLE
        return self.add("RotaryEmbedding", tensor, cos, sin, positions, domain=domain, **attributes)

    def repeated(self, tensor: str, shape: tuple[int, int, int, int], heads: int) -> str:
        """Keys or values ``[batch, kv_heads, positions, size]`` for each of the heads that share them."""
        batch, kv_heads, positions, size = shape
        if kv_heads == heads:
            return tensor
        grouped = self.reshaped(tensor, batch, kv_heads, 1, positions, size)
        wide = self.constant([batch, kv_heads, heads // kv_heads, positions, size])
        return self.reshaped(self.add("Expand", grouped, wide), batch, heads, positions, size)

    def attention(self, q: str, k: str, v: str, scale: float, masks: Sequence[str]) -> str:
        """``softmax(scale · q·kᵀ + Σ masks) · v`` over ``[batch, heads, positions, size]``, in pieces."""
        logits = self.add("MatMul", q, self.add("Transpose", k, perm=[0, 1, 3, 2]))
        logits = self.add("Mul", logits, self.constant(np.float32(scale)))
        if masks:
            first, *others = masks
            for other in others:
                first = self.add("Add", first, other)
            logits = self.add("Add", logits, first)
        return self.add("MatMul", self.add("Softmax", logits, axis=-1), v)

    def causal(self, queries: int, keys: int) -> list[str]:
        """What hides the keys after each query, the last query being at the last key; nothing hides any of one."""
        if queries == 1:
            return []
        self.check_size(queries * keys)
        seen = np.tri(queries, keys, keys - queries, dtype=np.bool_)
        return [self.constant(np.where(seen, np.float32(0.0), np.finfo(np.float32).min)[None, None])]


_LARGEST = 2**26
"""Elements of a constant: a causal mask of 8192 positions."""

_ROTARY_SINCE = 23
"""The opset that has RotaryEmbedding; before, it is written in a domain of ours."""
