"""Operators of onnxruntime's own domain, as its transformer optimiser writes them, in terms of ONNX's.

Activations become Gelu or Swish, in a domain of ours where the model's opset lacks them; normalisations of a sum become
the sum and the normalisation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from onnx import NodeProto, helper

from fettle.graph.errors import InvalidGraph
from fettle.graph.onnx.protos import FETTLE, MICROSOFT, number

SINCE = {"Gelu": 20, "Swish": 24, "LayerNormalization": 17}
"""The opset that has an operator."""

_LAYER_NORM_INPUTS = 3
_SUM = 3
"""Which output of SkipLayerNormalization is the sum."""

Fresh = Callable[[str], str]
"""A tensor name that is not taken, from a stem."""


def rewritten(node: NodeProto, fresh: Fresh, opset: int) -> list[NodeProto] | None:
    """The node in other operators; None if it is none of those known here.

    Raises:
        InvalidGraph: an operator without its inputs.
    """
    make = _MAKERS.get(node.op_type) if node.domain == MICROSOFT else None
    if make is None:
        return None
    if not node.input or not node.output or not all(node.input[:1]) or not node.output[0]:
        raise InvalidGraph(f"node {node.name!r}: {node.op_type} lacks inputs", details={"node": node.name})
    return make(node, fresh, opset)


def _activation(node: NodeProto, x: str, operator: str, opset: int, **attributes: Any) -> NodeProto:
    domain = "" if opset >= SINCE[operator] else FETTLE
    return helper.make_node(operator, [x], node.output[:1], name=node.name, domain=domain, **attributes)


def _gelu(node: NodeProto, fresh: Fresh, opset: int) -> list[NodeProto]:
    """Gelu, BiasGelu, FastGelu: perhaps with a bias, the last by the approximation with tanh."""
    x, nodes = node.input[0], []
    if len(node.input) > 1 and node.input[1]:
        total = fresh(f"{node.name}_sum")
        nodes.append(helper.make_node("Add", node.input[:2], [total], name=f"{node.name}/bias"))
        x = total
    attributes = {"approximate": "tanh"} if node.op_type == "FastGelu" else {}
    return [*nodes, _activation(node, x, "Gelu", opset, **attributes)]


def _quick_gelu(node: NodeProto, fresh: Fresh, opset: int) -> list[NodeProto]:
    return [_activation(node, node.input[0], "Swish", opset, alpha=float(number(node, "alpha", 1.702)))]


def _skip_layer_normalization(node: NodeProto, fresh: Fresh, opset: int) -> list[NodeProto] | None:
    """Add [-> Add] -> LayerNormalization. What is for training must be unused."""
    if len(node.input) < _LAYER_NORM_INPUTS or not all(node.input[:_LAYER_NORM_INPUTS]):
        raise InvalidGraph(f"node {node.name!r}: {node.op_type} lacks inputs", details={"node": node.name})
    if opset < SINCE["LayerNormalization"] or any(node.output[1:_SUM]):
        return None
    x, skip, scale, *rest = node.input
    terms = [skip, *filter(None, rest[1:2])]
    last = node.output[_SUM] if len(node.output) > _SUM else ""
    totals = [fresh(f"{node.name}_sum") for _ in terms[1:]] + [last or fresh(f"{node.name}_sum")]
    nodes = []
    for index, (term, total) in enumerate(zip(terms, totals, strict=True)):
        nodes.append(helper.make_node("Add", [x, term], [total], name=f"{node.name}/add{index}"))
        x = total
    inputs = [x, scale, *filter(None, rest[:1])]
    epsilon = float(number(node, "epsilon", 1e-5))
    made = helper.make_node("LayerNormalization", inputs, node.output[:1], name=node.name, axis=-1, epsilon=epsilon)
    return [*nodes, made]


_MAKERS: dict[str, Callable[[NodeProto, Fresh, int], list[NodeProto] | None]] = {
    "Gelu": _gelu,
    "BiasGelu": _gelu,
    "FastGelu": _gelu,
    "QuickGelu": _quick_gelu,
    "SkipLayerNormalization": _skip_layer_normalization,
}
