"""From numbers to codes of 8 bits and back, by elementwise nodes."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, TensorProto, helper

from fettle.graph.onnx.protos import integer
from fettle.graph.onnx.rewriting.steps import Steps
from fettle.graph.onnx.rewriting.workbench import Chain, Workbench

AXIS_SINCE = 13
"""The opset whose DequantizeLinear has steps along an axis."""


def quantised(node: NodeProto, steps: Steps, bench: Workbench) -> list[NodeProto]:
    """QuantizeLinear as Cast -> Div -> Round -> Add -> Clip -> Cast."""
    chain = Chain(bench, node.input[0], node.name).then("Cast", to=TensorProto.FLOAT)
    chain.then("Div", bench.constant(f"{node.name}_step", np.float32(steps.step)))
    return to_codes(chain, node.output[0], steps, (), bench)


def dequantised(node: NodeProto, steps: Steps, bench: Workbench) -> list[NodeProto]:
    """DequantizeLinear as Cast -> Sub -> Mul."""
    chain = Chain(bench, node.input[0], node.name)
    from_codes(chain, steps, steps.step, bench).nodes[-1].output[0] = node.output[0]
    return chain.nodes


def dequantised_along(node: NodeProto, bench: Workbench) -> list[NodeProto]:
    """DequantizeLinear of a constant by a step for each element of an axis, as Cast -> Sub -> Mul."""
    axis, rank = integer(node, "axis", 1), len(bench.constants[node.input[0]][1])
    shape = [-1 if number == axis else 1 for number in range(rank)]
    step = Chain(bench, node.input[1], node.name).reshaped(shape)
    chain, nodes = Chain(bench, node.input[0], node.name).then("Cast", to=TensorProto.FLOAT), step.nodes
    for name in node.input[2:]:
        zero = Chain(bench, name, node.name).reshaped(shape).then("Cast", to=TensorProto.FLOAT)
        chain.then("Sub", zero.tensor)
        nodes += zero.nodes
    chain.then("Mul", step.tensor).nodes[-1].output[0] = node.output[0]
    return [*nodes, *chain.nodes]


def from_codes(chain: Chain, steps: Steps, factor: float, bench: Workbench) -> Chain:
    """``(code - zero) · factor`` in float32."""
    chain.then("Cast", to=TensorProto.FLOAT)
    if steps.zero:
        chain.then("Sub", bench.constant(f"{chain.tensor}_zero", np.float32(steps.zero)))
    return chain.then("Mul", bench.constant(f"{chain.tensor}_factor", np.float32(factor)))


def to_codes(
    chain: Chain,
    result: str,
    steps: Steps,
    shape: tuple[int, ...],
    bench: Workbench,
    bounds: tuple[int, int] | None = None,
) -> list[NodeProto]:
    """A number in units of the step, rounded to the nearest, halves to the even one, as a code; all nodes of the chain.

    Args:
        result: name of the codes.
        shape: of the constant that holds the zero point.
        bounds: the least and largest code, those of the type by default.
    """
    low, high = (
        bench.constant(f"{result}_bound", np.array(bound, np.float32))
        for bound in bounds or (steps.lowest, steps.highest)
    )
    chain.then("Round")
    if steps.zero:
        chain.then("Add", bench.constant(f"{result}_zero", np.full(shape, steps.zero, np.float32)))
    chain.then("Clip", low, high).then("Cast", to=helper.np_dtype_to_tensor_dtype(steps.dtype))
    chain.nodes[-1].output[0] = result
    return chain.nodes
