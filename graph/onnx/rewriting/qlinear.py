"""onnxruntime's operators over tensors quantised to 8 bits, between DequantizeLinear and QuantizeLinear.

Their inputs are codes, each followed by its step and zero point, and at the end step and zero point of the result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from onnx import NodeProto, TensorProto

from fettle.graph.onnx.protos import integer, number
from fettle.graph.onnx.rewriting.workbench import Chain, Workbench, scaled


def _binary(operator: str) -> Callable[[NodeProto, Workbench], list[NodeProto]]:
    def spelled(node: NodeProto, bench: Workbench) -> list[NodeProto]:
        """a, its step and zero point, b likewise, those of the result."""
        if len(node.input) < 7:
            return [node]
        a, b = (Chain(bench, node.input[i], node.name) for i in (0, 3))
        for i, operand in ((1, a), (4, b)):
            operand.then("DequantizeLinear", *filter(None, node.input[i : i + 2]))
        a.then(operator, b.tensor)
        return [*b.nodes, *_ended(a, node, node.input[6:8], node.input[2], bench)]

    return spelled


def _global_average(node: NodeProto, bench: Workbench) -> list[NodeProto]:
    if len(node.input) < 4 or integer(node, "channels_last", 0):
        return [node]
    x = Chain(bench, node.input[0], node.name).then("DequantizeLinear", *filter(None, node.input[1:3]))
    return _ended(x.then("GlobalAveragePool"), node, node.input[3:5], node.input[2], bench)


def _gemm(node: NodeProto, bench: Workbench) -> list[NodeProto]:
    """a, b and their steps and zero points, int32 bias, and perhaps step and zero point of the result. A step of b's
    columns is one of each. The bias counts in steps of a, b and alpha, so alpha may be part of a's."""
    if len(node.input) < 6:
        return [node]
    inputs = [*node.input, "", "", ""][:9]
    turned = integer(node, "transB", 0)
    several = {"axis": 0 if turned else 1} if bench.constants.get(inputs[4], (0, ()))[1] not in ((), (1,)) else {}
    alpha, factor = number(node, "alpha", 1.0), Chain(bench, inputs[1], node.name)
    if alpha != 1.0:
        factor = scaled(bench, inputs[1], bench.constant(f"{node.name}_alpha", np.float32(alpha)), node.name)
    a = Chain(bench, inputs[0], node.name).then("DequantizeLinear", *filter(None, (factor.tensor, inputs[2])))
    b = Chain(bench, inputs[3], node.name).then("DequantizeLinear", *filter(None, inputs[4:6]), **several)
    nodes, operands = [*factor.nodes, *b.nodes], [b.tensor]
    if inputs[6]:
        step = scaled(bench, inputs[4], factor.tensor, node.name)
        bias = Chain(bench, inputs[6], node.name)
        bias.then("DequantizeLinear", step.tensor, **({"axis": 0} if several else {}))
        nodes += [*step.nodes, *bias.nodes]
        operands.append(bias.tensor)
    a.then("Gemm", *operands)
    a.nodes[-1].attribute.extend(attribute for attribute in node.attribute if attribute.name != "alpha")
    if inputs[7]:
        return [*nodes, *_ended(a, node, inputs[7:9], inputs[2], bench)]
    a.nodes[-1].output[0] = node.output[0]
    return [*nodes, *a.nodes]


def _ended(chain: Chain, node: NodeProto, steps: Sequence[str], like: str, bench: Workbench) -> list[NodeProto]:
    """The chain with its result as codes.

    Args:
        steps: step and zero point. Without the latter it is 0, of the type of ``like``.
        like: zero point of an input.
    """
    step, zero = [*steps, ""][:2]
    if not zero and bench.constants.get(like, (0, ()))[0] == TensorProto.INT8:
        zero = bench.constant(f"{node.name}_zero", np.zeros((), np.int8))
    chain.then("QuantizeLinear", *filter(None, (step, zero))).nodes[-1].output[0] = node.output[0]
    return chain.nodes


SPELLED: Mapping[str, Callable[[NodeProto, Workbench], list[NodeProto]]] = {
    "QLinearAdd": _binary("Add"),
    "QLinearMul": _binary("Mul"),
    "QLinearGlobalAveragePool": _global_average,
    "QGemm": _gemm,
}
"""By the operator's name, of the domain ``com.microsoft``."""
