"""Elementwise operators of ONNX as expressions: the same numbers as ONNX's reference, alone and after a product."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper, parser

from fettle.graph.data import reference
from fettle.graph.onnx.reference import evaluate
from fettle.graph.onnx_import import Imported, import_model

ROWS = np.random.default_rng(1).standard_normal((5, 1, 1)).astype(np.float32)
NODES = [
    "Clip(x, lo, hi)",
    "Clip(x, lo)",
    'Clip(x, "", hi)',
    "HardSigmoid(x)",
    "HardSigmoid<alpha=0.1666667, beta=0.4>(x)",
    "HardSwish(x)",
    "LeakyRelu(x)",
    "LeakyRelu<alpha=1.5>(x)",
    "Elu<alpha=0.7>(x)",
    "Swish<alpha=1.7>(x)",
    "Round(x)",
    "Max(x, lo)",
    "Min(hi, x)",
]


def model(node: str, opset: int, given: str = "x") -> Imported:
    body = f"""<ir_version: 8, opset_import: ["" : {opset}]>
        g (float[2,5,6,4] {given}) => (float[2,5,6,4] y) <float lo = {{-0.3}}, float hi = {{0.8}}> {{ {node} }}"""
    proto = parser.parse_model(body)
    proto.graph.initializer.append(numpy_helper.from_array(ROWS, "rows"))
    weight = np.random.default_rng(2).standard_normal((5, 5, 1, 1)).astype(np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(weight, "weight"))
    return import_model(proto.SerializeToString())


def check(imported: Imported) -> str:
    """Its one workload's expression, after its reference semantics met those of ONNX."""
    (node,) = imported.graph.nodes
    assert node.workload is not None, node.reason
    (name,) = (value.name for value in imported.model.graph.input)
    x = 3.0 * np.random.default_rng(0).standard_normal((2, 5, 6, 4)).astype(np.float32)
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in imported.model.graph.initializer} | {name: x}
    operands = [
        tensors[names[0]].reshape(spec.shape) for names, spec in zip(node.inputs, node.workload.operands, strict=True)
    ]
    right = reference(node.workload, operands)
    expected = evaluate(imported.model, {name: x})["y"].reshape(right.expected.shape)
    assert (np.abs(right.expected - expected) <= 4 * right.tolerance + 1e-6).all()
    return str(dict(node.workload.fields).get("epilogue") or node.workload["expr"])


@pytest.mark.parametrize("node", NODES)
def test_an_operator_is_written_out_as_onnx_defines_it(node: str) -> None:
    assert "x0" in check(model(f"y = {node}", 24))


@pytest.mark.parametrize("node", ["PRelu(x, rows)", *(n for n in NODES if n != "Round(x)")])  # a step amplifies errors
def test_it_follows_a_convolution_in_its_epilogue(node: str) -> None:
    assert "y" in check(model(f"x = Conv(a, weight) y = {node}", 24, "a"))


def test_bounds_of_an_old_clip_are_attributes_and_default_ones_bound_nothing() -> None:
    assert check(model("y = Clip<min=0.0, max=6.0>(x)", 6)) == "min(max(x0,0.0),6.0)"
    assert check(model("y = Clip<min=-3.4028234663852886e+38, max=6.0>(x)", 6)) == "min(x0,6.0)"


@pytest.mark.parametrize("node", ["Max(x)", "Max(x, lo, hi)", "Clip(x)"])
def test_what_no_expression_says_is_left_over_with_a_reason(node: str) -> None:
    (left,) = model(f"y = {node}", 24).graph.nodes
    assert left.workload is None
    assert "no expression" in left.reason
