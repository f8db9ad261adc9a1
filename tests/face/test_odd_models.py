"""Valid models of unusual form give what ONNX says, with kernels and without any."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
