"""Models as the transformer optimiser of onnxruntime leaves them: its operators compute what they compute there."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, parser

from fettle.differences import compare
from fettle.graph.errors import InvalidGraph
from fettle.graph.onnx.reference import evaluate
from fettle.graph.onnx_import import import_model
from fettle.runtime import GraphRuntime
from tests.face.test_runtime import NumpyKernel

OPSETS = '["" : {opset}, "com.microsoft" : 1]'
NORM = "skip, w, b"


def build(node: str, opset: int, outputs: str = "float[2,5,8] y") -> onnx.ModelProto:
    proto = parser.parse_model(
        f"<ir_version: 10, opset_import: {OPSETS.format(opset=opset)}>"
        f"g (float[2,5,8] x, float[2,5,8] skip) => ({outputs}) {{ {node} }}"
    )
    rng = np.random.default_rng(0)
    proto.graph.initializer.extend(
        numpy_helper.from_array(rng.standard_normal(8, np.float32), name) for name in ("w", "b", "c")
    )
    return proto


@pytest.mark.parametrize("opset", [17, 20])
@pytest.mark.parametrize(
    ("node", "workloads"),
    [
        ("y = com.microsoft.Gelu (x)", ["elementwise"]),
        ("y = com.microsoft.FastGelu (x)", ["elementwise"]),
        ("y = com.microsoft.FastGelu (x, b)", ["elementwise"]),
        ("y = com.microsoft.BiasGelu (x, b)", ["elementwise"]),
        ("y = com.microsoft.QuickGelu <alpha = 1.5> (x)", ["elementwise"]),
        (f"y = com.microsoft.SkipLayerNormalization <epsilon = 0.01> (x, {NORM})", ["elementwise", "layernorm"]),
        (f"y = com.microsoft.SkipLayerNormalization (x, {NORM}, c)", ["elementwise", "layernorm"]),
    ],
)
def test_an_operator_of_the_optimiser_computes_what_onnxruntime_computes(
    node: str, workloads: list[str], opset: int
) -> None:
    model = build(node, opset)
    rng = np.random.default_rng(1)
    inputs: dict[str, np.ndarray] = {name: rng.standard_normal((2, 5, 8), np.float32) for name in ("x", "skip")}
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (theirs,) = session.run(None, inputs)
    imported = import_model(model.SerializeToString())
    ours = GraphRuntime(imported, NumpyKernel)(inputs)
    assert compare(ours, {"y": theirs})["y"].nrmse < 5e-6
    assert compare(evaluate(imported.model, inputs), {"y": theirs})["y"].nrmse < 5e-6
    found = [node.workload.operator for node in imported.graph.nodes if node.workload is not None]
    assert set(found) >= {workloads[-1]}


def test_a_sum_that_others_read_is_the_one_that_is_normalised() -> None:
    node = f"y, , , s = com.microsoft.SkipLayerNormalization (x, {NORM})"
    imported = import_model(build(node, 17, "float[2,5,8] y, float[2,5,8] s").SerializeToString())
    assert [str(n.workload) for n in imported.graph.nodes] == [
        "elementwise shape=10x8 act=f32 expr=x0+x1",
        "layernorm rows=10 cols=8 act=f32",
    ]


def test_statistics_and_other_operators_are_named() -> None:
    node = f"y, mean = com.microsoft.SkipLayerNormalization (x, {NORM})"
    imported = import_model(build(node, 17, "float[2,5,8] y, float[2,5,1] mean").SerializeToString())
    assert "SkipLayerNormalization" in imported.graph.unsupported()[0].reason


def test_an_operator_without_its_inputs_is_refused() -> None:
    with pytest.raises(InvalidGraph, match="lacks inputs"):
        import_model(build("y = com.microsoft.SkipLayerNormalization (x, skip)", 17).SerializeToString())


MASKS = {
    "none": (", ", "", 0),
    "causal": (", ", "", 1),
    "lengths": (", m", ", int32[2] m", 0),
    "positions": (", m", ", int32[2,5] m", 0),
    "pairs": (", m", ", int32[2,5,5] m", 0),
}


def attention(mask: str, more: str = "") -> onnx.ModelProto:
    name, declared, causal = MASKS[mask]
    given = f"num_heads = 2, unidirectional = {causal}{more}"
    proto = parser.parse_model(
        f"<ir_version: 8, opset_import: {OPSETS.format(opset=17)}>"
        f"g (float[2,5,8] x{declared}) => (float[2,5,8] y)"
        f"{{ a = com.microsoft.Attention <{given}> (x, w, b{name.rstrip(', ')})"
        f"  y = com.microsoft.Attention <{given}> (a, w, b{name.rstrip(', ')}) }}"
    )
    rng = np.random.default_rng(0)
    for name, shape in {"w": (8, 24), "b": (24,)}.items():
        proto.graph.initializer.append(numpy_helper.from_array(rng.standard_normal(shape, np.float32), name))
    return proto


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("more", ["", ", scale = 0.3, mask_filter_value = -7.5"])
def test_attention_that_projects_itself_computes_what_onnxruntime_computes(mask: str, more: str) -> None:
    model, rng = attention(mask, more), np.random.default_rng(1)
    inputs: dict[str, np.ndarray] = {"x": rng.standard_normal((2, 5, 8), np.float32)}
    if MASKS[mask][1]:
        shape = {"lengths": (2,), "positions": (2, 5), "pairs": (2, 5, 5)}[mask]
        inputs["m"] = rng.integers(0, 2, shape, np.int32) if mask != "lengths" else np.array([3, 5], np.int32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (theirs,) = session.run(None, inputs)
    imported = import_model(model.SerializeToString())
    assert compare(GraphRuntime(imported, NumpyKernel)(inputs), {"y": theirs})["y"].nrmse < 5e-6
    operators = [node.workload.operator for node in imported.graph.nodes if node.workload is not None]
    assert operators == ["matmul", "attention"] * 2


def test_forms_of_attention_that_are_not_understood_are_named() -> None:
    imported = import_model(attention("none", ", do_rotary = 1").SerializeToString())
    assert {node.reason for node in imported.graph.unsupported()} == {"com.microsoft.Attention with do_rotary=1"}
