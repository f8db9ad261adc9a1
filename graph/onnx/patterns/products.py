"""Convolutions, and products of 8-bit codes, as workloads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from onnx import NodeProto, TensorProto

from fettle.graph.onnx.patterns.facts import CODES, Facts, Match, NoWorkload
from fettle.graph.onnx.protos import integer
from fettle.graph.onnx.windows import Window
from fettle.graph.workload import Workload


def matmul_integer(node: NodeProto, facts: Facts) -> Match:
    """Of codes; their zero point may change from run to run."""
    if node.input[1] not in facts.constants or any(node.input[3:]):
        raise NoWorkload("MatMulInteger with a weight that is no constant, or has a zero point")
    x, w = facts.shape(node.input[0], *CODES), facts.shape(node.input[1], TensorProto.INT8)
    if len(w) != 2:
        raise NoWorkload(f"MatMulInteger with a weight of shape {list(w)}")
    workload = Workload.of("matmul", m=math.prod(x[:-1]), n=w[1], k=w[0], **_of_codes(node, facts))
    return Match(workload, tuple((name,) for name in node.input if name))


def conv(node: NodeProto, facts: Facts) -> Match:
    """Two axes, or one: then the image has one row."""
    if any(name not in facts.constants for name in node.input[1:] if name):
        raise NoWorkload("the weight or bias of Conv is not a constant")
    formats = {"act": "f32", "weight": "f32"}
    if len(node.input) > 2 and node.input[2]:
        formats["epilogue"] = "y+b0"
    return _convolution(node, facts.shape(node.input[0]), facts.shape(node.input[1]), formats)


def conv_integer(node: NodeProto, facts: Facts) -> Match:
    """Of codes; their zero point may change from run to run."""
    if node.input[1] not in facts.constants or any(node.input[3:]):
        raise NoWorkload("ConvInteger with a weight that is no constant, or has a zero point")
    x, w = facts.shape(node.input[0], *CODES), facts.shape(node.input[1], TensorProto.INT8)
    return _convolution(node, x, w, _of_codes(node, facts))


def _of_codes(node: NodeProto, facts: Facts) -> dict[str, str]:
    """Formats of a product of codes of its first input by those of a weight."""
    fields = {"act": CODES[facts.types[node.input[0]].element], "weight": "i8"}
    if len(node.input) > 2 and node.input[2]:
        if math.prod(facts.shape(node.input[2], *CODES)) != 1:
            raise NoWorkload(f"{node.op_type} with a zero point for each row")
        fields["zero"] = "true"
    return fields


def _convolution(node: NodeProto, x: Sequence[int], w: Sequence[int], formats: Mapping[str, str]) -> Match:
    if len(x) not in (3, 4):
        raise NoWorkload(f"{node.op_type} over {len(x) - 2} axes; only one and two are tuned")
    window = Window.of(node, x[2:], w[2:])
    one = (1,) if len(x) == 3 else ()
    none = (0,) * len(one)
    pads = (*none, *window.begins, *none, *window.ends)
    workload = Workload.of(
        "conv2d",
        **dict(zip(("n", "c", "h", "w"), (*x[:2], *one, *x[2:]), strict=True)),
        **dict(zip(("oc", "kh", "kw"), (w[0], *one, *w[2:]), strict=True)),
        **{"stride": _across(*one, *window.strides), "dilation": _across(*one, *window.dilations)},
        **{"pad": _across(*pads), "group": integer(node, "group", 1), **formats},
    )
    return Match(workload, tuple((name,) for name in node.input if name))


def _across(*sizes: int) -> str:
    return "x".join(map(str, sizes))
