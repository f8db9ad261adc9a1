"""Models quantised to 8 bits: what onnxruntime makes of them, by workloads over codes, or in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from fettle.graph.onnx_import import Imported, import_model
from fettle.runtime import GraphRuntime

X_STEP, W_STEP, Y_STEP = 0.05, 0.02, 0.1


def model(nodes: list[Any], weights: dict[str, np.ndarray], opset: int = 21) -> bytes:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", TensorProto.FLOAT, [2, 6, 5, 5])],
        [value("y", TensorProto.FLOAT, ["a", "b", "c", "d"])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return bytes(proto.SerializeToString())


def check(source: bytes, step: float) -> Imported:
    """Equal to onnxruntime's result, but for a step where a sum lies between two."""
    x = np.random.default_rng(0).standard_normal((2, 6, 5, 5)).astype(np.float32)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": x})
    imported = import_model(source)
    runtime = GraphRuntime(imported, lambda workload: None)
    off = np.abs(runtime({"x": x})["y"] - expected)
    assert off.max() <= 1.01 * step
    assert (off > 0.01 * step).mean() < 0.04
    return imported


def node(operator: str, inputs: str, output: str, **attributes: Any) -> Any:
    return helper.make_node(operator, inputs.split(), output.split(), **attributes)


def codes(*shape: int, dtype: type = np.int8) -> np.ndarray:
    return np.random.default_rng(1).integers(-90, 90, shape).astype(dtype)


CONSTANTS = {
    "xs": np.float32(X_STEP), "xz": np.uint8(120), "ys": np.float32(Y_STEP), "yz": np.uint8(7),
    "ws": np.float32(W_STEP), "wz": np.int8(0), "w": codes(4, 6, 3, 3), "b": codes(4, dtype=np.int32),
    "wss": np.float32([0.01, 0.02, 0.03, 0.04]), "wzs": np.zeros(4, np.int8), "bs": np.float32(X_STEP * W_STEP),
}  # fmt: skip
QUANTISED = node("QuantizeLinear", "x xs xz", "xq")


def test_round_trips_through_8_bits_are_part_of_the_convolution_before() -> None:
    """Its weight has a zero point, so that it is not computed on codes."""
    nodes = [
        QUANTISED,
        node("DequantizeLinear", "xq xs xz", "xd"),
        node("DequantizeLinear", "w ws odd", "wd"),
        node("DequantizeLinear", "b bs", "bd"),
        node("Conv", "xd wd bd", "c", pads=[1, 1, 1, 1]),
        node("Relu", "c", "r"),
        node("QuantizeLinear", "r ys yz", "rq"),
        node("DequantizeLinear", "rq ys yz", "y"),
    ]
    imported = check(model(nodes, {**CONSTANTS, "odd": np.int8(3)}), Y_STEP)
    (before, convolution) = (workload for workload, _ in imported.graph.workloads())
    assert before["expr"].text == "min(max(round(x0/0.05000000074505806),-120.0),135.0)*0.05000000074505806"
    assert convolution["epilogue"].text.startswith("min(max(round(relu(y+b0)/")
    assert len([n for n in imported.graph.nodes if n.reason != "computed once, from constants only"]) == 2


@pytest.mark.parametrize("scales", ["ws wz", "wss wzs"])
@pytest.mark.parametrize("opset", [13, 21])
def test_quantised_convolutions_are_those_of_codes(scales: str, opset: int) -> None:
    nodes = [
        QUANTISED,
        node("QLinearConv", f"xq xs xz w {scales} ys yz b", "cq", strides=[2, 1]),
        node("DequantizeLinear", "cq ys yz", "y"),
    ]
    imported = check(model(nodes, CONSTANTS, opset), Y_STEP)
    assert [str(workload).split(maxsplit=1)[1] for workload, _ in imported.graph.workloads()] == [
        "shape=60x5 act=f32 expr=round(x0/0.05000000074505806)+120.0 out=u8",
        "n=2 c=6 h=5 w=5 oc=4 kh=3 kw=3 stride=2x1 act=u8 weight=i8 epilogue=round(y*b0+b1)+b2 zero=true out=u8",
        "shape=16x3 act=u8 expr=(x0-7.0)*0.10000000149011612 out=f32",
    ]


def test_quantised_products_are_those_of_codes() -> None:
    weights = {**CONSTANTS, "w": codes(5, 4)}
    nodes = [
        QUANTISED,
        node("QLinearMatMul", "xq xs xz w wss wzs ys yz", "cq"),
        node("DequantizeLinear", "cq ys yz", "y"),
    ]
    imported = check(model(nodes, weights), Y_STEP)
    _, product, _ = (workload for workload, _ in imported.graph.workloads())
    assert str(product) == "matmul m=60 n=4 k=5 act=u8 weight=i8 out=u8 epilogue=round(y*b0)+b1 zero=true"


def test_codes_that_others_read_stay() -> None:
    nodes = [
        QUANTISED,
        node("DequantizeLinear", "xq xs xz", "xd"),
        node("MaxPool", "xq", "pooled", kernel_shape=[1, 1]),
        node("DequantizeLinear", "pooled xs xz", "p"),
        node("Add", "xd p", "y"),
    ]
    imported = check(model(nodes, CONSTANTS), X_STEP)
    left = {node.name for node in imported.graph.unsupported()}
    assert not left & set(GraphRuntime(imported, lambda workload: None).slow)


@pytest.mark.parametrize(
    ("operator", "weight", "zeros"),
    [
        ("ConvInteger", codes(4, 6, 3, 3), np.int8(3)),
        ("ConvInteger", codes(4, 6, 3, 3), np.array([1, -2, 3, 0], np.int8)),
        ("MatMulInteger", codes(5, 4), np.int8(-3)),
        ("MatMulInteger", codes(5, 4), np.array([1, -2, 3, 0], np.int8)),
    ],
)
def test_products_of_dynamically_quantised_tensors_are_exact(
    operator: str, weight: np.ndarray, zeros: np.ndarray
) -> None:
    nodes = [
        node("DynamicQuantizeLinear", "x", "xq step point"),
        node(operator, "xq w point wzs", "whole"),
        node("Cast", "whole", "real", to=TensorProto.FLOAT),
        node("Mul", "real step", "y"),
    ]
    if operator == "ConvInteger" and zeros.ndim:
        source = model(nodes, {"w": weight, "wzs": zeros})
        imported = import_model(source)  # onnxruntime takes equal zero points only
    else:
        imported = check(model(nodes, {"w": weight, "wzs": zeros}), 1e-3)
    runtime = GraphRuntime(imported, lambda workload: None)
    assert not any(name.startswith("DynamicQuantize") for name in runtime.slow)
    assert len(imported.graph.workloads()) == 1


def test_values_without_a_range_have_the_step_one() -> None:
    nodes = [
        node("DynamicQuantizeLinear", "x", "xq step point"),
        node("DequantizeLinear", "xq step point", "y"),
    ]
    runtime = GraphRuntime(import_model(model(nodes, {})), lambda workload: None)
    assert not runtime({"x": np.zeros((2, 6, 5, 5), np.float32)})["y"].any()


@pytest.mark.parametrize(("scale", "zero"), [("ys", "xz"), ("xs", "yz")])
def test_another_step_or_zero_point_is_no_round_trip(scale: str, zero: str) -> None:
    nodes = [QUANTISED, node("DequantizeLinear", f"xq {scale} {zero}", "y")]
    imported = check(model(nodes, CONSTANTS), 0.01)
    assert imported.graph.workloads() == ()
    assert GraphRuntime(imported, lambda workload: None).slow == []


def test_codes_of_the_type_that_an_attribute_names_stay_codes() -> None:
    nodes = [
        node("QuantizeLinear", "x xs", "q", output_dtype=TensorProto.INT8),
        node("DequantizeLinear", "q xs", "y"),
    ]
    imported = check(model(nodes, {"xs": CONSTANTS["xs"]}), X_STEP)
    assert not imported.graph.workloads()


def test_a_product_whose_rows_have_steps_of_their_own_is_left_alone() -> None:
    rows = np.linspace(0.01, 0.05, 5).astype(np.float32)
    nodes = [node("QuantizeLinear", "x xs xz", "q"), node("QLinearMatMul", "q rows zeros w ws wz ys yz", "y")]
    weights = {**CONSTANTS, "rows": rows, "zeros": np.zeros(5, np.uint8), "w": codes(5, 4)}
    source = onnx.load_from_string(model(nodes, weights))
    source.graph.output[0].type.tensor_type.elem_type = TensorProto.UINT8
    imported = import_model(source.SerializeToString())
    assert imported.model.graph.node[-1].op_type == "QLinearMatMul"
