"""Constant folding: shapes and masks that a model computes are known before it runs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from fettle.graph.onnx.reference import evaluate
from fettle.graph.onnx_import import Imported, import_model, without_weights


def build(body: str, arrays: dict[str, np.ndarray] | None = None) -> bytes:
    proto = parser.parse_model(f'<ir_version: 10, opset_import: ["" : 17]> {body}')
    proto.graph.initializer.extend(numpy_helper.from_array(a, name) for name, a in (arrays or {}).items())
    return proto.SerializeToString()


def operators(imported: Imported) -> list[str]:
    return [node.op_type for node in imported.model.graph.node]


def texts(imported: Imported) -> list[str]:
    return [str(workload) for workload, _ in imported.graph.workloads()]


HEADS = """g (float[batch, 6, 40] x) => (float[batch, 4, 6, 10] y) {
    shape = Shape(x)  zero = Constant <value = int64 {0}> ()
    batch = Gather <axis = 0> (shape, zero)
    axis = Constant <value = int64[1] {0}> ()
    first = Unsqueeze (batch, axis)
    rest = Constant <value = int64[3] {6, 4, 10}> ()
    target = Concat <axis = 0> (first, rest)
    filled = ConstantOfShape <value = int64[1] {1}> (four)
    same = Equal (filled, target)
    chosen = Where (same, filled, target)
    p = MatMul (x, w)
    split = Reshape (p, chosen)
    y = Transpose <perm = [0, 2, 1, 3]> (split)
}"""
"""As the older exporter of PyTorch writes ``x.view(x.shape[0], 6, 4, 10)``."""


def heads() -> bytes:
    rng = np.random.default_rng(0)
    return build(HEADS, {"w": rng.standard_normal((40, 40)).astype(np.float32), "four": np.array([4], np.int64)})


@pytest.mark.parametrize("batch", [1, 3])
def test_a_shape_that_the_model_computes_is_known_before_it_runs(batch: int) -> None:
    imported = import_model(heads(), {"batch": batch})
    assert operators(imported) == ["MatMul", "Reshape", "Transpose"]
    assert texts(imported) == [f"matmul m={6 * batch} n=40 k=40 act=f32 weight=f32"]
    assert imported.types["y"].shape == (batch, 4, 6, 10)


def test_folding_changes_no_result() -> None:
    x = np.random.default_rng(1).standard_normal((2, 6, 40)).astype(np.float32)
    whole = onnx.load_from_string(heads())
    np.testing.assert_array_equal(
        evaluate(import_model(heads(), {"batch": 2}).model, {"x": x})["y"], evaluate(whole, {"x": x})["y"]
    )


CAUSAL = """g (float[n, n] x) => (float[n, n] y) {
    shape = Shape <start = 1> (x)  axis = Constant <value = int64[0] {}> ()
    length = ReduceSum <keepdims = 0> (shape)
    zero = Constant <value = int64 {0}> ()  one = Constant <value = int64 {1}> ()
    positions = Range (zero, length, one)
    last = Constant <value = int64[1] {1}> ()
    column = Unsqueeze (positions, last)
    seen = LessOrEqual (positions, column)
    lowest = Constant <value = float {-1.0}> ()
    y = Where (seen, x, lowest)
}"""


def test_a_causal_mask_made_of_ranges_becomes_an_initializer() -> None:
    imported = import_model(build(CAUSAL), {"n": 50})
    assert operators(imported) == ["Where"]
    (mask,) = [t for t in imported.model.graph.initializer if t.data_type == TensorProto.BOOL]
    np.testing.assert_array_equal(numpy_helper.to_array(mask), np.tri(50, dtype=np.bool_))


def test_weights_stay_weights() -> None:
    body = "g (float[2, 40] x) => (float[2, 50] y) { t = Transpose (w)  y = MatMul (x, t) }"
    imported = import_model(build(body, {"w": np.ones((50, 40), np.float32)}))
    assert operators(imported) == ["Transpose", "MatMul"]


def test_what_fails_or_is_too_large_is_left_to_whoever_runs_the_model() -> None:
    body = """g (float[1] x) => (float[1] y, float[2048, 2049] z) {
        beyond = Gather (small, five)  y = Add (x, beyond)
        z = ConstantOfShape (extents)
    }"""
    arrays = {"small": np.arange(3, dtype=np.float32), "five": np.array([5]), "extents": np.array([2048, 2049])}
    assert operators(import_model(build(body, arrays))) == ["Gather", "Add", "ConstantOfShape"]


def test_a_model_without_its_weights_is_understood_as_the_whole_one() -> None:
    body = """g (float[2, 50, 50] x) => (float[2, 50, 50] y, float[40] v) {
        mask = Not (later)  lowest = Constant <value = float {-1.0}> ()
        y = Where (mask, x, lowest)  v = Neg (w)
    }"""
    arrays = {"later": ~np.tri(50, dtype=np.bool_), "w": np.ones(4000, np.float32)}
    model = build(body.replace("float[40] v", "float[4000] v"), arrays)
    whole, stripped = import_model(model), import_model(without_weights(model))
    assert operators(whole) == operators(stripped) == ["Where", "Neg"]
    assert [node.workload for node in whole.graph.nodes] == [node.workload for node in stripped.graph.nodes]


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather_elements_of_fewer_rows_than_the_data_has(axis: int) -> None:
    """onnx's own reference fails for such indices."""
    data, indices = np.arange(24.0).reshape(4, 6), np.array([[3, 0, 1], [2, 2, 0]])
    node = helper.make_node("GatherElements", ["d", "i"], ["y"], axis=axis)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("d", TensorProto.DOUBLE, (4, 6))],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, (2, 3))],
        [numpy_helper.from_array(indices, "i")],
    )
    found = evaluate(helper.make_model(graph), {"d": data})["y"]
    for (i, j), index in np.ndenumerate(indices):
        assert found[i, j] == (data[index, j] if axis == 0 else data[i, index])
