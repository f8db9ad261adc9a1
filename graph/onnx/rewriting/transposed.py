"""ConvTranspose as a convolution: what it spreads over ``s x s`` results comes from s² filters at one place."""

from __future__ import annotations

from onnx import NodeProto, helper

from fettle.graph.onnx.protos import integer
from fettle.graph.onnx.rewriting.workbench import Chain, Workbench
from fettle.graph.onnx.windows import Window
from fettle.graph.operators.base import MAX_EXTENT

_SINCE = 11
"""The opset whose Pad, Slice and DepthToSpace have the forms written here."""

_BACK = -(2**63)


def as_convolution(node: NodeProto, bench: Workbench) -> list[NodeProto]:
    """ConvTranspose over two axes -> Conv -> DepthToSpace -> Slice; the node itself where that cannot be.

    With stride s and a filter of size k, padded with zeros to q·s, result ``i·s + r`` is ``Σ_j x[i - j]·w[j·s + r]``
    along an axis: a convolution with the q taps ``w[(q - 1 - u)·s + r]`` for each phase r. The phases become
    channels, DepthToSpace interleaves them, and Slice drops what the padding drops.
    """
    weight = bench.constants.get(node.input[1] if len(node.input) > 1 else "")
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    explicit = "output_shape" not in attributes and attributes.get("auto_pad", b"NOTSET") == b"NOTSET"
    if weight is None or len(weight[1]) != 4 or min(weight[1]) < 1 or bench.opset < _SINCE or not explicit:
        return [node]
    (c, m, *size), group = weight[1], integer(node, "group", 1)
    window = Window.of(node, (), size)
    extra = attributes.get("output_padding", [0, 0])
    stride, stem = window.strides[0], node.name
    if (
        window.strides != (stride, stride)
        or window.dilations != (1, 1)
        or min(*window.begins, *window.ends, *extra) < 0
        or len(extra) != len(size)
        or group < 1
        or c % group
        or max(c * m * stride**2, *extra) > MAX_EXTENT
        or any(name not in bench.constants for name in node.input[2:] if name)
    ):
        return [node]
    taps = [-(-max(k, k + e - end) // stride) for k, e, end in zip(size, extra, window.ends, strict=True)]

    filters = Chain(bench, node.input[1], stem)
    missing = [q * stride - k for q, k in zip(taps, size, strict=True)]
    if any(missing):
        filters.then("Pad", bench.constant(f"{stem}_pads", [0, 0, 0, 0, 0, 0, *missing]))
    filters.reshaped([group, c // group, m, taps[0], stride, taps[1], stride])
    filters.then("Transpose", perm=[0, 2, 4, 6, 1, 3, 5])
    backwards = ([-1, -1], [_BACK, _BACK], [5, 6], [-1, -1])
    filters.then("Slice", *(bench.constant(f"{stem}_flip", values) for values in backwards))
    filters.reshaped([group * m * stride**2, c // group, *taps])
    inputs = [node.input[0], filters.tensor]

    bias = Chain(bench, node.input[2] if len(node.input) > 2 else "", stem)
    if bias.tensor:
        bias.reshaped([-1, 1]).then("Expand", bench.constant(f"{stem}_phases", [group * m, stride**2])).reshaped([-1])
        inputs.append(bias.tensor)

    phases = Chain(bench, bench.fresh(f"{stem}_phases"), stem)
    pads = [taps[0] - 1, taps[1] - 1] * 2
    convolution = helper.make_node("Conv", inputs, [phases.tensor], name=stem, pads=pads, group=group)
    if stride > 1:
        phases.then("DepthToSpace", blocksize=stride, mode="CRD")
    starts = list(window.begins)
    # counted from the end: the image's size is not known yet
    cut = [q * stride - k - e + end for q, k, e, end in zip(taps, size, extra, window.ends, strict=True)]
    if any(starts) or any(cut):
        ends = [-n if n else 2**63 - 1 for n in cut]
        phases.then("Slice", *(bench.constant(f"{stem}_cut", values) for values in (starts, ends, [2, 3])))
    last = (phases.nodes or [convolution])[-1]
    last.output[0] = node.output[0]
    return [*filters.nodes, *bias.nodes, convolution, *phases.nodes]
