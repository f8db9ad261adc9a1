"""Models of 16-bit floats become those of float32, between inputs and outputs that keep their types."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import ModelProto, TensorProto, numpy_helper, parser

from fettle.graph.onnx.importer import import_model
from fettle.graph.onnx.reference import evaluate

RNG = np.random.default_rng(0)


def model(body: str, opset: int = 23, **arrays: Any) -> ModelProto:
    proto = parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}, "other" : 1]> {body}')
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    return proto


def results(proto: ModelProto, **inputs: np.ndarray) -> list[np.ndarray]:
    """What the rewritten model gives; that of the model as it is would be rounded at every node."""
    return list(evaluate(import_model(proto.SerializeToString()).model, inputs).values())


@pytest.mark.parametrize(("kind", "dtype"), [("float16", np.float16), ("bfloat16", ml_dtypes.bfloat16)])
@pytest.mark.parametrize("columns", [8, 64])
def test_products_of_short_floats_are_workloads_of_float32_and_outputs_are_rounded_once(
    kind: str, dtype: Any, columns: int
) -> None:
    w, x = (RNG.standard_normal(shape).astype(dtype) for shape in ((32, columns), (4, 32)))
    proto = model(f"g ({kind}[4,32] x) => ({kind}[4,{columns}] y) {{ p = MatMul(x, w) y = Relu(p) }}", w=w)
    imported = import_model(proto.SerializeToString())
    texts = [str(node.workload) for node in imported.graph.nodes if node.workload]
    assert texts == [f"matmul m=4 n={columns} k=32 act=f32 weight=f32 epilogue=relu(y)"]
    (y,) = results(proto, x=x)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, np.maximum(x.astype(np.float32) @ w.astype(np.float32), 0).astype(dtype))


def test_large_weights_stay_as_they_are_stored() -> None:
    proto = model("g (float16[4,64] x) => (float16[4,64] y) { y = MatMul(x, w) }", w=np.ones((64, 64), np.float16))
    stored = {t.name: t.data_type for t in import_model(proto.SerializeToString()).model.graph.initializer}
    assert stored == {"w": TensorProto.FLOAT16}


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_small_constants_may_be_outputs(dtype: Any) -> None:
    kind, c = np.dtype(dtype).name, np.array([1.5, -2.0], dtype)
    proto = model(f"g ({kind}[2] x) => ({kind}[2] y, {kind}[2] c) {{ y = Add (x, c) }}", c=c)
    y, same = results(proto, x=c)
    assert y.dtype == same.dtype == dtype
    np.testing.assert_array_equal(y, c + c)
    np.testing.assert_array_equal(same, c)


def test_constants_and_types_in_attributes_and_bodies_are_wide_too() -> None:
    """1, 2, 3 and 4 are written as ONNX's text has numbers of 16 bits: as the integers of their bits."""
    body = """g (float16[4] x, bool go) => (float16[4] y, float16[4] z) {
        t = Cast <to = 10> (x)  s = Constant <value = float16[4] {15360, 16384, 16896, 17408}> ()
        y = If (go) <
            then_branch = h () => (float16[4] a) { a = Add (t, s) },
            else_branch = j () => (float16[4] b) <float16[1] two = {16384}> { b = Mul (t, two) }
        >
        z = Neg (y)
    }"""
    x = np.array([0.5, -1.0, 2.0, 65504.0], np.float16)
    for go, expected in ((True, x + np.array([1, 2, 3, 4], np.float16)), (False, np.array([1, -2, 4, np.inf]))):
        y, z = results(model(body), x=x, go=np.array(go))
        assert y.dtype == z.dtype == np.float16
        np.testing.assert_array_equal(y, expected.astype(np.float16))
        np.testing.assert_array_equal(z, -expected.astype(np.float16))


def test_numbers_between_nodes_do_not_overflow() -> None:
    proto = model("g (float16[1] x) => (float16[1] y) { s = Mul (x, x) y = Sqrt (s) }")
    (y,) = results(proto, x=np.array([1024.0], np.float16))
    assert y == 1024.0


def test_mixed_types_as_pytorch_exports_them_are_understood() -> None:
    """torch.onnx folds a BatchNorm of bfloat16 into a convolution whose weight it makes float32."""
    body = "g (bfloat16[1,2,5,5] x) => (bfloat16[1,3,3,3] y) { y = Conv (x, w) }"
    proto = model(body, w=np.ones((3, 2, 3, 3), np.float32))
    assert [str(w.operator) for w, _ in import_model(proto.SerializeToString()).graph.workloads()] == ["conv2d"]
    (y,) = results(proto, x=np.ones((1, 2, 5, 5), ml_dtypes.bfloat16))
    assert (y == 18.0).all()


@pytest.mark.parametrize("node", ["y = other.Thing (x)", "y = BitCast <to = 10> (x)"])
def test_what_may_look_at_bits_is_left_alone(node: str) -> None:
    proto = model(f"g (float16[4] x) => (float16[4] y) {{ {node} }}", 26)
    assert len(import_model(proto.SerializeToString()).model.graph.node) == 1
