"""Operators of onnxruntime's own domain, as its transformer optimiser writes them, in terms of ONNX's.

Activations become Gelu or Swish, normalisations of a sum become the sum and LayerNormalization or RMSNormalization: in
a domain of ours where the model's opset lacks them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from onnx import NodeProto, helper

from fettle.graph.errors import InvalidGraph
from fettle.graph.onnx.protos import FETTLE, MICROSOFT, integer, number
from fettle.graph.onnx.rewriting.workbench import Workbench

SINCE = {"Gelu": 20, "Swish": 24, "LayerNormalization": 17, "RMSNormalization": 23}
"""The opset that has an operator."""

_SUM = 3
"""Which output of a normalisation of a sum is the sum; those between are for training."""


def rewritten(node: NodeProto, bench: Workbench) -> list[NodeProto] | None:
    """The node in other operators; None if it is none of those known here.

    Raises:
        InvalidGraph: an operator without its inputs, or an RMS normalisation whose statistics are used.
    """
    own = node.domain == MICROSOFT or (node.domain == "" and node.op_type == "SimplifiedLayerNormalization")
    make = _MAKERS.get(node.op_type) if own else None
    if make is None:
        return None
    if not node.input or not node.output or not node.input[0] or not node.output[0]:
        raise _lacks_inputs(node)
    return make(node, bench)


def _lacks_inputs(node: NodeProto) -> InvalidGraph:
    return InvalidGraph(f"node {node.name!r}: {node.op_type} lacks inputs", details={"node": node.name})


def _made(node: NodeProto, inputs: Sequence[str], operator: str, opset: int, **attributes: Any) -> NodeProto:
    domain = "" if opset >= SINCE[operator] else FETTLE
    return helper.make_node(operator, inputs, node.output[:1], name=node.name, domain=domain, **attributes)


def _gelu(node: NodeProto, bench: Workbench) -> list[NodeProto]:
    """Gelu, BiasGelu, FastGelu: perhaps with a bias, the last by the approximation with tanh."""
    nodes, x = _sum(node, node.input[:1], node.input[1:2], bench)
    attributes = {"approximate": "tanh"} if node.op_type == "FastGelu" else {}
    return [*nodes, _made(node, [x], "Gelu", bench.opset, **attributes)]


def _quick_gelu(node: NodeProto, bench: Workbench) -> list[NodeProto]:
    return [_made(node, node.input[:1], "Swish", bench.opset, alpha=float(number(node, "alpha", 1.702)))]


def _layer_norm_of_sum(node: NodeProto, bench: Workbench) -> list[NodeProto] | None:
    """x, skip, scale, shift, bias: Add [-> Add] -> LayerNormalization."""
    if len(node.input) < 3 or not all(node.input[:3]):
        raise _lacks_inputs(node)
    if bench.opset < SINCE["LayerNormalization"] or any(node.output[1:_SUM]):
        return None
    nodes, x = _sum(node, node.input[:2], node.input[4:5], bench, node.output[_SUM:])
    inputs = [x, node.input[2], *filter(None, node.input[3:4])]
    epsilon = float(number(node, "epsilon", 1e-5))
    return [*nodes, _made(node, inputs, "LayerNormalization", bench.opset, axis=-1, epsilon=epsilon)]


def _rms_norm_of_sum(node: NodeProto, bench: Workbench) -> list[NodeProto]:
    """x, skip, scale, bias: Add [-> Add] -> RMSNormalization."""
    if len(node.input) < 3 or not all(node.input[:3]):
        raise _lacks_inputs(node)
    nodes, x = _sum(node, node.input[:2], node.input[3:4], bench, node.output[_SUM:])
    return [*nodes, _rms_norm(node, x, node.input[2], node.output[1:_SUM], bench)]


def _simplified(node: NodeProto, bench: Workbench) -> list[NodeProto]:
    """x, scale: RMSNormalization."""
    if len(node.input) < 2 or not node.input[1]:
        raise _lacks_inputs(node)
    return [_rms_norm(node, node.input[0], node.input[1], node.output[1:], bench)]


def _rms_norm(node: NodeProto, x: str, scale: str, statistics: Sequence[str], bench: Workbench) -> NodeProto:
    if any(statistics):
        raise InvalidGraph(
            f"node {node.name!r}: the statistics outputs of {node.op_type} are for training and not understood",
            details={"node": node.name},
        )
    attributes = {"axis": integer(node, "axis", -1), "epsilon": float(number(node, "epsilon", 1e-5))}
    return _made(node, [x, scale], "RMSNormalization", bench.opset, **attributes)


def _sum(
    node: NodeProto, first: Sequence[str], others: Sequence[str], bench: Workbench, result: Sequence[str] = ()
) -> tuple[list[NodeProto], str]:
    """Add nodes for all that are there, and the name of the sum: ``result``, where the model gives it one."""
    x, *terms = filter(None, (*first, *others))
    nodes = []
    for index, term in enumerate(terms):
        named = result[0] if index == len(terms) - 1 and result and result[0] else ""
        total = named or bench.fresh(f"{node.name}_sum")
        nodes.append(helper.make_node("Add", [x, term], [total], name=f"{node.name}/add{index}"))
        x = total
    return nodes, x


_MAKERS: dict[str, Callable[[NodeProto, Workbench], list[NodeProto] | None]] = {
    "Gelu": _gelu,
    "BiasGelu": _gelu,
    "FastGelu": _gelu,
    "QuickGelu": _quick_gelu,
    "SkipLayerNormalization": _layer_norm_of_sum,
    "SkipSimplifiedLayerNormalization": _rms_norm_of_sum,
    "SimplifiedLayerNormalization": _simplified,
}
