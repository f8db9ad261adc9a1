"""Valid models of unusual form give what ONNX says, with kernels and without any."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import ModelProto
from onnx.reference import ReferenceEvaluator

from fettle.graph.onnx_import import import_model
from fettle.runtime import CallableKernel, GraphRuntime
from tests.face.test_runtime import NumpyKernel
from tests.face.test_transformers import build

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, np.float32)


def without(_: object) -> CallableKernel | None:
    return None


def check(model: ModelProto, inputs: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    """The runtime gives the expected outputs, whether workloads have kernels or not."""
    for kernels in (NumpyKernel, without):
        outputs = GraphRuntime(import_model(model.SerializeToString()), kernels)(inputs)
        assert outputs.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_allclose(outputs[name], array, rtol=1e-4, atol=1e-5, strict=True)


def check_with_onnx(body: str, inputs: Mapping[str, Any], constants: Mapping[str, Any], opset: int = 17) -> None:
    """As :func:`check`, against ONNX's own reference evaluator of the model as it is."""
    model = build(body, dict(constants), opset)
    arrays = {name: np.asarray(array) for name, array in inputs.items()}
    evaluator = ReferenceEvaluator(model)
    check(model, arrays, dict(zip(evaluator.output_names, evaluator.run(None, arrays), strict=True)))


def softmax(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    powers = np.exp(x.astype(np.float64))
    return (powers / powers.sum(axis=axes, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("opset", [11, 12])
@pytest.mark.parametrize(
    ("attributes", "axes"),
    [("", (1, 2)), ("<axis = 0>", (0, 1, 2)), ("<axis = -2>", (1, 2)), ("<axis = 2>", (2,)), ("<axis = -1>", (2,))],
)
def test_softmax_before_opset_13_is_over_all_axes_from_one_on(
    opset: int, attributes: str, axes: tuple[int, ...]
) -> None:
    nodes = f"y = Softmax{attributes}(x) z = LogSoftmax{attributes}(x)"
    body = f"g (float[2,3,4] x) => (float[2,3,4] y, float[2,3,4] z) {{ {nodes} }}"
    x = normal(2, 3, 4)
    y = softmax(x, axes)
    check(build(body, {}, opset), {"x": x}, {"y": y, "z": np.log(y)})


@pytest.mark.parametrize("name", ["Softmax", "LogSoftmax"])
def test_so_it_is_in_bodies_of_any_depth(name: str) -> None:
    x = normal(2, 3, 4)
    deeper = f"""c = If<then_branch = deep () => (float[2,3,4] a) {{ a = {name}<axis = 0>(r) }},
        else_branch = same () => (float[2,3,4] b) {{ b = Identity(r) }}>(q)"""
    body = f"""g (float[2,3,4] x, bool q) => (float[2,3,4] y) {{
        y = If<then_branch = first () => (float[2,3,4] c) {{ r = Relu(x) {deeper} }},
            else_branch = second () => (float[2,3,4] d) {{ d = {name}(x) }}>(q)
    }}"""
    for q, z, axes in ((True, np.maximum(x, 0.0), (0, 1, 2)), (False, x, (1, 2))):
        expected = softmax(z, axes)
        check(
            build(body, {}, 11),
            {"x": x, "q": np.asarray(q)},
            {"y": expected if name == "Softmax" else np.log(expected)},
        )


def test_softmax_before_opset_13_of_a_shape_that_only_a_run_tells() -> None:
    body = "g (float[5,3] x, int64[1] n) => (float[m,k] y) { s = Slice(x, zero, n) y = Softmax<axis = 0>(s) }"
    x = normal(5, 3)
    check(build(body, {"zero": [0]}, 12), {"x": x, "n": np.array([2])}, {"y": softmax(x[:2], (0, 1))})


IMAGE = "g (float[1,2,4,4] x) => (float[4,4,4] y) "


@pytest.mark.parametrize("shape", [(4, 1), (4, 1, 1), (4,)])
def test_a_row_after_a_view_of_a_convolution_is_along_the_axis_it_says(shape: tuple[int, ...]) -> None:
    body = IMAGE + "{ c = Conv(x, w) s = Squeeze(c, first) y = Add(s, b) }"
    check_with_onnx(body, {"x": normal(1, 2, 4, 4)}, {"w": normal(4, 2, 1, 1), "first": [0], "b": normal(*shape)})


@pytest.mark.parametrize(("scale", "bias"), [((4, 1), (4,)), ((4,), (4, 1)), ((1, 4), (4,))])
def test_a_scale_of_a_normalisation_for_each_row(scale: tuple[int, ...], bias: tuple[int, ...]) -> None:
    body = "g (float[4,4] x) => (float[4,4] y) { y = LayerNormalization(x, w, b) }"
    check_with_onnx(body, {"x": normal(4, 4)}, {"w": normal(*scale), "b": normal(*bias)})


@pytest.mark.parametrize("operator", ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"])
@pytest.mark.parametrize(("shape", "result"), [("0,3", "0"), ("3,0", "3")])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the mean of nothing is NaN
def test_reductions_of_empty_tensors(operator: str, shape: str, result: str) -> None:
    body = f"g (float[{shape}] x) => (float[{result}] y) {{ y = {operator}<keepdims = 0>(x, a) }}"
    check_with_onnx(body, {"x": np.zeros([int(size) for size in shape.split(",")], np.float32)}, {"a": [1]}, 20)


@pytest.mark.parametrize("element", ["uint8", "int32"])
def test_linear_resize_of_integers(element: str) -> None:
    body = f'g ({element}[1,1,2,4] x) => ({element}[1,1,2,8] y) {{ y = Resize<mode = "linear">(x, , scales) }}'
    x = np.arange(0, 80, 10).reshape(1, 1, 2, 4).astype(element)
    check_with_onnx(body, {"x": x}, {"scales": np.array([1, 1, 1, 2], np.float32)}, 19)


def test_rows_of_an_empty_table() -> None:
    body = "g (float[2,0] x) => (float[1,0] y) { y = GatherND(x, i) }"
    check_with_onnx(body, {"x": np.zeros((2, 0), np.float32)}, {"i": [[1]]})


def test_pools_of_bfloat16() -> None:
    body = "g (bfloat16[1,1,4] x) => (bfloat16[1,1,3] y) { y = MaxPool<kernel_shape = [2]>(x) }"
    check_with_onnx(body, {"x": normal(1, 1, 4).astype(ml_dtypes.bfloat16)}, {}, 22)


def test_integers_are_quantised_too() -> None:
    body = """g (int32[4] x) => (int8[4,1] codes, float[4] y) {
        q = QuantizeLinear(x, s, z) codes = Unsqueeze(q, one) r = QuantizeLinear(x, s, z) y = DequantizeLinear(r, s, z)
    }"""
    x = np.array([-200, -3, 1, 40], np.int32)
    codes = np.array([-128, -3, 5, 83], np.int8)  # halves go to even ones
    expected = {"codes": codes[:, None], "y": (codes - np.float32(3)) * np.float32(0.5)}
    check(build(body, {"s": np.float32(0.5), "z": np.int8(3), "one": [1]}, 17), {"x": x}, expected)


@pytest.mark.parametrize("zero", [np.uint8([1, 2, 3]), np.uint8([[1], [2], [3]])])
@pytest.mark.parametrize("kind", [np.int8, np.uint8])
def test_products_of_codes_with_a_zero_point_for_each_row(zero: np.ndarray, kind: type) -> None:
    body = "g (uint8[3,3] x) => (int32[3,2] y) { y = MatMulInteger(x, w, z) }"
    x, w = np.arange(9, dtype=np.uint8).reshape(3, 3), np.arange(6).reshape(3, 2).astype(kind)
    expected = (x.astype(np.int32) - zero.reshape(3, 1)) @ w.astype(np.int32)
    check(build(body, {"w": w, "z": zero}, 17), {"x": x}, {"y": expected})


@pytest.mark.parametrize("opset", [11, 12, 13])
@pytest.mark.parametrize("zeros", [np.uint8([0, 9, 250]), np.int8([0, 0, 0])])
def test_quantised_convolutions_with_a_step_for_each_channel(opset: int, zeros: np.ndarray) -> None:
    body = """g (uint8[1,2,4,4] x) => (uint8[1,3,4,4] y) {
        y = QLinearConv(x, xs, xz, w, ws, wz, ys, yz, b)
    }"""
    constants = {
        "xs": np.float32(0.1), "xz": np.uint8(3), "ys": np.float32(0.7), "yz": np.uint8(100), "wz": zeros,
        "w": RNG.integers(0, 20, (3, 2, 1, 1)).astype(zeros.dtype), "ws": np.float32([0.1, 0.2, 0.3]),
        "b": np.int32([5, -70, 900]),
    }  # fmt: skip
    check_with_onnx(body, {"x": RNG.integers(0, 40, (1, 2, 4, 4)).astype(np.uint8)}, constants, opset)


def test_a_normalisation_of_another_type_than_its_convolution_stays() -> None:
    body = """g (float16[1,2,4,4] x) => (float16[1,3,4,4] y) {
        c = Conv(x, w) y = BatchNormalization(c, scale, shift, mean, variance)
    }"""
    constants = {name: normal(3) for name in ("scale", "shift", "mean")} | {"variance": np.float32([1, 2, 3])}
    constants["w"] = np.ones((3, 2, 1, 1), np.float16)
    x = RNG.integers(-4, 5, (1, 2, 4, 4)).astype(np.float16)
    model = build(body, constants, 17)
    runtime = GraphRuntime(import_model(model.SerializeToString()), without)
    (expected,) = ReferenceEvaluator(model).run(None, {"x": x})
    np.testing.assert_allclose(runtime({"x": x})["y"], expected, rtol=1e-2, atol=1e-2, strict=True)


def test_a_copy_that_a_body_reads_stays_and_others_go() -> None:
    body = """g (float[3] x, bool q) => (float[3] y, float[3] z) {
        i = Identity(x) j = Identity(x) z = Neg(j)
        y = If<then_branch = t () => (float[3] a) { a = Relu(i) }, else_branch = e () => (float[3] b) { b = Neg(z) }>(q)
    }"""
    x = normal(3)
    model = build(body, {}, 17)
    assert [node.op_type for node in import_model(model.SerializeToString()).model.graph.node] == [
        "Identity",
        "Neg",
        "If",
    ]
    for q in (False, True):
        check(model, {"x": x, "q": np.array(q)}, {"y": np.maximum(x, 0) if q else x, "z": -x})


BODY = """body (int64 i, bool before, float[2] v) => (bool after, float[2] w, float[2] row, int64 number) {
    after = Less(i, last) w = Add(v, v) row = Identity(v) number = Identity(i)
}"""


@pytest.mark.parametrize(
    ("inputs", "passes"),
    [("trips, ", 3), ("trips, yes", 3), (", yes", 5), (", ", 5), ("trips, no", 0), ("none, ", 0)],
)
def test_loops_stack_what_their_passes_give(inputs: str, passes: int) -> None:
    body = f"""g (float[2] x) => (float[2] y, float[n,2] rows, int64[n] numbers) {{
        y, rows, numbers = Loop<body = {BODY}>({inputs}, x)
    }}"""
    constants = {"trips": np.array(3), "none": np.array(0), "yes": np.array(True), "no": np.array(False)}
    x = normal(2)
    expected = {
        "y": x * np.float32(2**passes),
        "rows": np.array([x * np.float32(2**i) for i in range(passes)], np.float32).reshape(passes, 2),
        "numbers": np.arange(passes),
    }
    check(build(body, constants | {"last": np.array(4)}, 17), {"x": x}, expected)


def test_constants_without_elements() -> None:
    check_with_onnx(
        "g (float[0,4,4] x) => (float[0,4,4] y) { y = Add(x, c) }", {"x": normal(0, 4, 4)}, {"c": normal(0, 4, 4)}
    )
