"""Models whose tensors are quantised to 8 bits, in ONNX's operators for plain tensors.

Products and what lies between them are computed on codes where that can be (``integers.py``). The rest is arithmetic
in float32 that rounds where they round. Whole numbers of 8 bits, and products summed up to 2^24, are exact there:
a product of quantised tensors is one of their values, and QuantizeLinear with DequantizeLinear after it are a division,
a rounding, bounds and a multiplication, which kernels do in passing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from onnx import NodeProto, TensorProto, helper

from fettle.graph.onnx.protos import MICROSOFT, reads
from fettle.graph.onnx.rewriting.edges import AXIS_SINCE
from fettle.graph.onnx.rewriting.integers import at_the_edges, on_codes
from fettle.graph.onnx.rewriting.qlinear import SPELLED
from fettle.graph.onnx.rewriting.steps import is_usual
from fettle.graph.onnx.rewriting.workbench import Chain, Workbench, scaled
from fettle.graph.onnx.windows import CONVOLUTION

_SINCE = 11
"""The opset that has Round, and Clip with bounds as inputs."""


def in_plain_operators(nodes: Iterable[NodeProto], bench: Workbench) -> list[NodeProto]:
    """The nodes without operators over tensors with steps, and without round trips through 8 bits."""
    if bench.opset < _SINCE:
        return list(nodes)
    plain: list[NodeProto] = []
    for node in nodes:
        if node.op_type in ("QLinearConv", "QLinearMatMul") and not node.domain and _has_known_steps(node, bench):
            plain += _of_values(node, bench)
        elif node.domain == MICROSOFT and node.op_type in SPELLED:
            plain += SPELLED[node.op_type](node, bench)
        elif node.op_type in ("ConvInteger", "MatMulInteger") and not node.domain and _has_known_zeros(node, bench):
            plain += [_with_plain_weight(node)] if _is_exact(node, bench) else _of_codes(node, bench)
        else:
            plain.append(node)
    return at_the_edges(_without_round_trips(on_codes(plain, bench), bench), bench)


def _is_exact(node: NodeProto, bench: Workbench) -> bool:
    """Whether kernels multiply the codes themselves: by a constant of int8 with the zero point 0, over two axes at
    most."""
    element, shape = bench.constants.get(node.input[1], (0, ()))
    zero = bench.value(node.input[3]) if len(node.input) > 3 and node.input[3] else np.zeros(1, np.int8)
    ranks = (3, 4) if node.op_type == "ConvInteger" else (2,)
    return element == TensorProto.INT8 and len(shape) in ranks and zero is not None and not zero.any()


def _with_plain_weight(node: NodeProto) -> NodeProto:
    """The node without its weight's zero point."""
    plain = NodeProto()
    plain.CopyFrom(node)
    del plain.input[3:]
    return plain


def _has_known_steps(node: NodeProto, bench: Workbench) -> bool:
    """Whether only the weight has a step and zero point for each channel, if anything has."""
    shapes = [bench.constants[name][1] if name in bench.constants else None for name in node.input]
    weight = all(shapes[i] is not None for i in (4, 5))
    if bench.opset < AXIS_SINCE and shapes[3] is None and math.prod(shapes[4] or ()) > 1:
        return False
    return weight and all(shapes[i] is not None and math.prod(shapes[i] or ()) == 1 for i in (1, 2, 6, 7))


def _has_known_zeros(node: NodeProto, bench: Workbench) -> bool:
    """Whether a zero point for each channel comes with a weight whose rank is known, and none with a row."""
    x_zero, zero = [*node.input, "", ""][2:4]
    if math.prod(bench.constants.get(x_zero, (0, ()))[1]) != 1:
        return False
    return not zero or not bench.constants.get(zero, (0, ()))[1] or node.input[1] in bench.constants


def _of_values(node: NodeProto, bench: Workbench) -> list[NodeProto]:
    """QLinearConv, QLinearMatMul -> DequantizeLinear (each operand) -> Conv, MatMul -> QuantizeLinear."""
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, *bias = node.input
    channels = 0 if node.op_type == "QLinearConv" else 1
    several = math.prod(bench.constants[w_scale][1]) > 1
    left = Chain(bench, x, node.name).then("DequantizeLinear", x_scale, x_zero)
    right = Chain(bench, w, node.name)
    right.then("DequantizeLinear", w_scale, w_zero, **({"axis": channels} if several else {}))
    nodes, operands = [*left.nodes, *right.nodes], [left.tensor, right.tensor]
    if bias and bias[0]:
        step = scaled(bench, w_scale, x_scale, node.name)
        offset = Chain(bench, bias[0], node.name)
        offset.then("DequantizeLinear", step.tensor, **({"axis": 0} if several else {}))
        nodes += [*step.nodes, *offset.nodes]
        operands.append(offset.tensor)
    product = _product(node, operands, bench.fresh(f"{node.name}_product"))
    return [*nodes, product, helper.make_node("QuantizeLinear", [product.output[0], y_scale, y_zero], node.output)]


def _of_codes(node: NodeProto, bench: Workbench) -> list[NodeProto]:
    """ConvInteger, MatMulInteger -> (code - zero point) of each operand -> Conv, MatMul -> Round -> Cast to int32."""
    x, w, x_zero, w_zero = [*node.input, "", ""][:4]
    operands: list[str] = []
    nodes: list[NodeProto] = []
    for code, zero in ((x, x_zero), (w, w_zero)):
        value = Chain(bench, code, node.name).then("Cast", to=TensorProto.FLOAT)
        if zero:
            offset = Chain(bench, zero, node.name).then("Cast", to=TensorProto.FLOAT)
            if code == w and node.op_type == "ConvInteger" and bench.constants.get(zero, (0, ()))[1]:
                offset.reshaped([-1, *(1 for _ in bench.constants[w][1][1:])])
            value.then("Sub", offset.tensor)
            nodes += offset.nodes
        nodes += value.nodes
        operands.append(value.tensor)
    product = _product(node, operands, bench.fresh(f"{node.name}_product"))
    whole = Chain(bench, product.output[0], node.name).then("Round").then("Cast", to=TensorProto.INT32)
    whole.nodes[-1].output[0] = node.output[0]
    return [*nodes, product, *whole.nodes]


def _product(node: NodeProto, operands: Sequence[str], result: str) -> NodeProto:
    kind = "Conv" if "Conv" in node.op_type else "MatMul"
    product = helper.make_node(kind, operands, [result], name=node.name)
    product.attribute.extend(attribute for attribute in node.attribute if attribute.name in CONVOLUTION)
    return product


def _without_round_trips(nodes: Sequence[NodeProto], bench: Workbench) -> list[NodeProto]:
    """QuantizeLinear that DequantizeLinear with the same step reads -> Div -> Round -> Clip -> Mul.

    ``round(x / s) + z`` between two bounds, minus z, is ``round(x / s)`` between the bounds minus z. QuantizeLinear
    itself stays for readers that want codes.
    """
    writers = {node.output[0]: node for node in nodes if node.op_type == "QuantizeLinear" and not node.domain}
    wanted = Counter(name for node in nodes for name in reads(node))
    wanted.update(value.name for value in bench.graph.output)
    values: dict[str, str] = {}
    result: list[NodeProto] = []
    for node in nodes:
        writer = writers.get(node.input[0]) if node.op_type == "DequantizeLinear" and not node.domain else None
        chain = None if writer is None else _round_trip(writer, node, bench)
        if chain is None:
            result.append(node)
            continue
        code = node.input[0]
        wanted[code] -= 1
        if code in values:  # the same round trip once more
            result.append(helper.make_node("Identity", [values[code]], node.output))
            continue
        chain.nodes[-1].output[0] = values[code] = node.output[0]
        result += chain.nodes
    return [node for node in result if not any(name in writers and wanted[name] == 0 for name in node.output)]


def _round_trip(writer: NodeProto, reader: NodeProto, bench: Workbench) -> Chain | None:
    """None where the two differ in their step, or it is not one number that is known."""
    scale, zero = [*writer.input, ""][1:3]
    if [scale, zero] != [*reader.input, ""][1:3]:
        return None
    if not (is_usual(writer) and is_usual(reader)):
        return None
    step, offset = bench.value(scale), bench.value(zero) if zero else np.zeros((), np.uint8)
    if step is None or step.dtype != np.float32 or step.size != 1:
        return None
    if offset is None or offset.size != 1 or offset.dtype.kind not in "iu":
        return None
    limits, point = np.iinfo(offset.dtype), int(offset.reshape(()))
    by = bench.constant(f"{reader.name}_step", step.reshape(()))
    bounds = [
        bench.constant(f"{reader.name}_bound", np.array(limit - point, np.float32))
        for limit in (limits.min, limits.max)
    ]
    return (
        Chain(bench, writer.input[0], reader.name)
        .then("Cast", to=TensorProto.FLOAT)  # of int32 or float16, else tidy takes it away
        .then("Div", by)
        .then("Round")
        .then("Clip", *bounds)
        .then("Mul", by)
    )
