"""BatchNormalization after a convolution, folded into its weight and bias."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from onnx import NodeProto, helper

from fettle.graph.onnx.protos import integer, number, reads
from fettle.graph.onnx.rewriting.workbench import Chain, Workbench

_CONVOLUTIONS = ("Conv", "ConvTranspose")


def fold_normalisations(nodes: Sequence[NodeProto], bench: Workbench) -> list[NodeProto]:
    """The nodes with each BatchNormalization merged into the convolution whose result it alone reads.

    With f = scale / √(variance + ε), ``f·(conv(x, W) + b - mean) + B`` is ``conv(x, f·W) + f·(b - mean) + B``; the new
    weight and bias are computed once, from constants only.
    """
    readers = Counter(name for node in nodes for name in reads(node))
    readers.update(value.name for value in bench.graph.output)
    parts: list[list[NodeProto]] = []
    convolutions: dict[str, int] = {}
    for node in nodes:
        source = node.input[0] if node.input else ""
        at = convolutions.get(source)
        joins = at is not None and readers[source] == 1 and _is_plain(node, bench)
        if at is not None and joins and _are_alike(parts[at][-1], node, bench):
            *before, convolution = parts[at]
            parts[at] = [*before, *_folded(convolution, node, bench)]
            convolutions[node.output[0]] = at
            continue
        if _takes_factor(node, bench):
            convolutions[node.output[0]] = len(parts)
        parts.append([node])
    return [node for part in parts for node in part]


def _is_plain(node: NodeProto, bench: Workbench) -> bool:
    """BatchNormalization by statistics that do not change."""
    return (
        node.op_type == "BatchNormalization"
        and not node.domain
        and len(node.input) == 5
        and all(name in bench.constants for name in node.input[1:])
        and sum(map(bool, node.output)) == 1
        and not integer(node, "training_mode", 0)
        and bool(integer(node, "spatial", 1))
    )


def _are_alike(convolution: NodeProto, normalisation: NodeProto, bench: Workbench) -> bool:
    """Whether the constants of both have one type: those of float16 networks need not."""
    names = [*convolution.input[1:], *normalisation.input[1:]]
    return len({bench.constants[name][0] for name in names if name}) == 1


def _takes_factor(node: NodeProto, bench: Workbench) -> bool:
    """A convolution with a constant weight and bias. Groups of a transposed one share its weight's second axis."""
    return (
        node.op_type in _CONVOLUTIONS
        and not node.domain
        and len(node.input) > 1
        and all(name in bench.constants for name in node.input[1:] if name)
        and (node.op_type == "Conv" or integer(node, "group", 1) == 1)
    )


def _folded(convolution: NodeProto, normalisation: NodeProto, bench: Workbench) -> list[NodeProto]:
    _, scale, offset, mean, variance = normalisation.input
    stem, weight = normalisation.name, convolution.input[1]
    element, shape = bench.constants[weight]
    dtype = helper.tensor_dtype_to_np_dtype(bench.constants[variance][0])
    epsilon = bench.constant(f"{stem}_epsilon", np.array(number(normalisation, "epsilon", 1e-5), dtype))
    root = Chain(bench, variance, stem).then("Add", epsilon).then("Sqrt")
    factor = Chain(bench, scale, stem).then("Div", root.tensor)
    channels = 0 if convolution.op_type == "Conv" else 1
    spread = Chain(bench, factor.tensor, stem).reshaped(-1 if axis == channels else 1 for axis in range(len(shape)))
    filters = Chain(bench, weight, stem).then("Mul", spread.tensor)
    bias = Chain(bench, convolution.input[2] if len(convolution.input) > 2 else "", stem)
    if bias.tensor:
        bias.then("Sub", mean)
    else:
        bias = Chain(bench, mean, stem).then("Neg")
    bias.then("Mul", factor.tensor).then("Add", offset)
    bench.constants[filters.tensor] = (element, shape)
    bench.constants[bias.tensor] = bench.constants[offset]
    merged = NodeProto()
    merged.CopyFrom(convolution)
    del merged.input[1:]
    merged.input.extend([filters.tensor, bias.tensor])
    merged.output[0] = normalisation.output[0]
    return [*root.nodes, *factor.nodes, *spread.nodes, *filters.nodes, *bias.nodes, merged]
