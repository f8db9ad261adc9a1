"""Rewrites around convolutions leave one workload each, and the same numbers as ONNX's own operators."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from fettle.graph.onnx.reference import evaluate
from fettle.graph.onnx.weights import without_weights
from fettle.graph.onnx_import import Imported, import_model

FEW = settings(max_examples=30, deadline=None, derandomize=True)


def model(
    nodes: list[Any], shape: tuple[int, ...], weights: dict[str, np.ndarray], opset: int = 21, outputs: int = 4
) -> ModelProto:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", TensorProto.FLOAT, shape)],
        [value("y", TensorProto.FLOAT, [f"d{i}" for i in range(outputs)])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def check(proto: ModelProto, shape: tuple[int, ...]) -> Imported:
    """The rewritten model gives what onnxruntime makes of the model as it was."""
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": x})
    imported = import_model(proto.SerializeToString())
    np.testing.assert_allclose(evaluate(imported.model, {"x": x})["y"], expected, rtol=1e-4, atol=1e-5)
    return imported


def kinds(imported: Imported) -> list[str]:
    """What is done in each pass."""
    return [
        node.workload.operator if node.workload else node.name
        for node in imported.graph.nodes
        if not node.reason.startswith("computed once")
    ]


def statistics(channels: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    numbers = {name: rng.standard_normal(channels).astype(np.float32) for name in ("scale", "offset", "mean")}
    return numbers | {"variance": rng.uniform(0.5, 2.0, channels).astype(np.float32)}


def batch_norm(source: str, result: str, **attributes: Any) -> Any:
    names = [source, "scale", "offset", "mean", "variance"]
    return helper.make_node("BatchNormalization", names, [result], name="bn", **attributes)


def weight(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("opset", [9, 14, 21])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(("operator", "group"), [("Conv", 1), ("Conv", 2), ("ConvTranspose", 1)])
def test_batch_normalisation_after_a_convolution_costs_nothing(
    opset: int, biased: bool, operator: str, group: int
) -> None:
    shape = (6, 4 // group, 3, 3) if operator == "Conv" else (4, 6, 3, 3)
    weights = {"w": weight(*shape), "b": weight(6), **statistics(6)}
    nodes = [
        helper.make_node(operator, ["x", "w", "b"][: 2 + biased], ["c"], group=group),
        batch_norm("c", "n", epsilon=0.01),
        helper.make_node("Relu", ["n"], ["y"]),
    ]
    imported = check(model(nodes, (2, 4, 7, 6), weights, opset), (2, 4, 7, 6))
    assert "bn" not in kinds(imported)
    if operator == "Conv":
        assert kinds(imported) == ["conv2d"]
        assert imported.graph.workloads()[0][0]["epilogue"].text == "relu(y+b0)"


def test_batch_normalisation_is_a_convolution_of_its_own_where_others_read_the_one_before() -> None:
    weights = {"w": weight(4, 4, 1), **statistics(4)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        batch_norm("c", "n"),
        helper.make_node("Add", ["n", "c"], ["y"]),
    ]
    first, second = (w for w, _ in check(model(nodes, (1, 4, 7), weights, outputs=3), (1, 4, 7)).graph.workloads())
    assert first["epilogue"] is None
    assert (second["group"], str(second["epilogue"])) == (4, "y+b0+x0")


def test_a_model_without_weights_has_the_same_workloads() -> None:
    weights = {"w": weight(20, 20, 3, 3), **statistics(20)}
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), batch_norm("c", "y")]
    proto = model(nodes, (1, 20, 7, 7), weights)
    whole, stripped = (
        import_model(source) for source in (proto.SerializeToString(), without_weights(proto.SerializeToString()))
    )
    assert whole.graph.workloads() == stripped.graph.workloads()


@st.composite
def transposed(draw: st.DrawFn) -> tuple[dict[str, Any], tuple[int, ...], int]:
    stride, group = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    size = [draw(st.integers(1, 5)) for _ in range(2)]
    attributes = {
        "strides": [stride, stride],
        "pads": [draw(st.integers(0, 2)) for _ in range(4)],
        "output_padding": [draw(st.integers(0, stride - 1)) for _ in range(2)],
        "group": group,
        "auto_pad": "NOTSET",
    }
    image = (5, 4)
    extents = [
        (i - 1) * stride + k + e - attributes["pads"][axis] - attributes["pads"][2 + axis]
        for axis, (i, k, e) in enumerate(zip(image, size, attributes["output_padding"], strict=True))
    ]
    assume(min(extents) > 0)
    return attributes, (2 * group, 3, *size), group


@FEW
@given(transposed())
def test_transposed_convolutions_are_convolutions(drawn: tuple[dict[str, Any], tuple[int, ...], int]) -> None:
    attributes, shape, group = drawn
    weights = {"w": weight(*shape), "b": weight(3 * group)}
    node = helper.make_node("ConvTranspose", ["x", "w", "b"], ["y"], name="up", **attributes)
    given_shape = (2, shape[0], 5, 4)
    imported = check(model([node], given_shape, weights), given_shape)
    assert kinds(imported)[0] == "conv2d"
    assert [w.operator for w, _ in imported.graph.workloads()] == ["conv2d"]


@pytest.mark.parametrize(
    ("attributes", "opset"),
    [
        ({"strides": [2, 1]}, 21),
        ({"dilations": [2, 2]}, 21),
        ({"strides": [2, 2], "output_shape": [10, 10]}, 21),
        ({}, 9),
    ],
)
def test_other_transposed_convolutions_stay(attributes: dict[str, Any], opset: int) -> None:
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], name="up", **attributes)
    proto = model([node], (1, 2, 5, 5), {"w": weight(2, 3, 3, 3)}, opset)
    assert kinds(import_model(proto.SerializeToString())) == ["up"]
