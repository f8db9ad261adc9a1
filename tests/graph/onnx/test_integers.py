"""Models quantised to 8 bits, computed on codes: what onnxruntime computes, and what is left to float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from fettle.graph.errors import InvalidGraph
from fettle.graph.onnx.patterns.fuse import CONSTANT
from fettle.graph.onnx.weights import without_weights
from fettle.graph.onnx_import import Imported, import_model
from fettle.runtime import GraphRuntime
from tests.face.test_runtime import NumpyKernel

STEPS = {"xs": 0.05, "ys": 0.1, "zs": 0.07}
RNG = np.random.default_rng(3)
CONSTANTS = {
    **{name: np.float32(step) for name, step in STEPS.items()},
    "xz": np.uint8(120), "yz": np.uint8(7), "zz": np.uint8(130), "zero": np.uint8(0),
    "ez": np.int8(0), "ix": np.int8(-3),
    "w": RNG.integers(-90, 90, (6, 6, 3, 3)).astype(np.int8), "u": RNG.integers(0, 255, (6, 6, 3, 3)).astype(np.uint8),
    "ws": np.linspace(0.005, 0.01, 6).astype(np.float32), "wz": np.zeros(6, np.int8), "uz": np.full(6, 120, np.uint8),
    "b": RNG.integers(-900, 900, 6).astype(np.int32), "bs": (0.05 * np.linspace(0.005, 0.01, 6)).astype(np.float32),
    "low": np.float32(0.0), "high": np.float32(6.0), "g": RNG.integers(-90, 90, (5, 6)).astype(np.int8),
    "h": RNG.integers(-90, 90, (6, 5)).astype(np.int8), "row": np.linspace(-1, 1, 5).astype(np.float32),
    "gs": np.linspace(0.01, 0.02, 5, dtype=np.float32), "gz": np.zeros(5, np.int8),
    "e": RNG.integers(-90, 90, (6, 2)).astype(np.int8), "es": np.float32(0.01), "column": np.float32([[1.0], [-2.0]]),
    "gb": 300 * np.arange(5, dtype=np.int32), "thirds": np.float32([0.01, 0.02, 0.03]),
    "wide": np.ones((7, 1030), np.int8), "axes": np.array([2, 3]),
    "many": np.float32(50.0), "most": np.float32(255.0),
    "halves": np.float32([0.5, 0.25, 0.75, 0.5, 0.1, 0.6]).reshape(6, 1, 1),
}  # fmt: skip


def node(operator: str, inputs: str, output: str, domain: str = "", **attributes: Any) -> onnx.NodeProto:
    names = [name.replace("-", "") for name in inputs.split()]
    return helper.make_node(operator, names, output.split(), domain=domain, **attributes)


def model(*nodes: onnx.NodeProto, rank: int = 4) -> bytes:
    used = {name for made in nodes for name in made.input}
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", TensorProto.FLOAT, [2, 6, 5, 7])],
        [value("y", TensorProto.FLOAT, list("abcd"[:rank]))],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in CONSTANTS.items() if name in used],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def check(source: bytes, step: float) -> Imported:
    """Equal to onnxruntime's result, but for a step where a number lies between two; workloads in float64 may meet more
    such numbers than its float32."""
    x = np.random.default_rng(0).standard_normal((2, 6, 5, 7)).astype(np.float32)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": x})
    imported = import_model(source)
    assert np.ptp(expected) > 5 * step
    nodes, workloads = (
        np.abs(GraphRuntime(imported, kernels)({"x": x})["y"] - expected) for kernels in (lambda _: None, NumpyKernel)
    )
    assert max(nodes.max(), workloads.max()) <= 1.01 * step
    assert (nodes > 0.01 * step).mean() < 0.02
    return imported


def texts(imported: Imported) -> list[str]:
    """Workloads in order, and the operators of other nodes that depend on the input."""
    operators = {n.name: n.op_type for n in imported.model.graph.node}
    found = [n for n in imported.graph.nodes if n.reason != CONSTANT]
    return [str(n.workload) if n.workload else operators[n.name] for n in found]


ENTRY = [node("QuantizeLinear", "x xs xz", "xq"), node("DequantizeLinear", "xq xs xz", "xd")]
WEIGHT = [node("DequantizeLinear", "w ws wz", "wd", axis=0), node("DequantizeLinear", "b bs", "bd", axis=0)]
CONVOLUTION = [*ENTRY, *WEIGHT, node("Conv", "xd wd bd", "c", pads=[1, 1, 1, 1])]
SHAPE = "conv2d n=2 c=6 h=5 w=7 oc=6 kh=3 kw=3 pad=1 act=u8 weight=i8"


def ended(tensor: str, zero: str = "yz", step: str = "ys") -> list[onnx.NodeProto]:
    return [
        node("QuantizeLinear", f"{tensor} {step} {zero}", "yq"),
        node("DequantizeLinear", f"yq {step} {zero}", "y"),
    ]


@pytest.mark.parametrize(
    ("between", "zero", "epilogue"),
    [
        ([], "yz", "round(y*b0+b1)+b2"),
        ([], "zero", "y*b0+b1"),
        ([node("Relu", "c", "r")], "zero", "y*b0+b1"),
        ([node("Relu", "c", "r")], "yz", "min(max(round(y*b0+b1)+b2,7.0),255.0)"),
        ([node("Clip", "c low high", "r")], "zero", "min(max(round(y*b0+b1),0.0),60.0)"),
        ([node("Relu", "c", "t"), node("Clip", "t - high", "r")], "zz", "min(max(round(y*b0+b1)+b2,130.0),190.0)"),
    ],
)
def test_a_convolution_between_codes_is_one_workload(between: list[Any], zero: str, epilogue: str) -> None:
    imported = check(model(*CONVOLUTION, *between, *ended("r" if between else "c", zero)), STEPS["ys"])
    entry, convolution, end = texts(imported)
    assert convolution == f"{SHAPE} epilogue={epilogue} zero=true out=u8"
    assert entry == "elementwise shape=60x7 act=f32 expr=round(x0/0.05000000074505806)+120.0 out=u8"
    assert end.endswith("out=f32")


def test_a_convolution_whose_numbers_are_read_gives_numbers() -> None:
    imported = check(model(*CONVOLUTION, node("Tanh", "c", "y")), 1e-3)
    assert texts(imported)[1] == f"{SHAPE} epilogue=tanh(y*b0+b1) zero=true"


def test_codes_may_be_signed() -> None:
    entry = [node("QuantizeLinear", "x xs ix", "xq"), node("DequantizeLinear", "xq xs ix", "xd")]
    nodes = [*entry, *WEIGHT, node("Conv", "xd wd bd", "c", strides=[2, 2]), *ended("c", "ez")]
    assert "act=i8 weight=i8 epilogue=y*b0+b1 zero=true out=i8" in texts(check(model(*nodes), STEPS["ys"]))[1]


def test_sums_of_codes_are_read_and_written_as_codes() -> None:
    nodes = [*CONVOLUTION, node("QuantizeLinear", "c zs zz", "zq"), node("DequantizeLinear", "zq zs zz", "zd")]
    imported = check(model(*nodes, node("Add", "xd zd", "a"), node("Relu", "a", "r"), *ended("r", "yz")), STEPS["ys"])
    _, _, total, _ = texts(imported)
    assert total.startswith("elementwise shape=60x7 act=u8 expr=round(relu((x0-120.0)*0.5")
    assert total.endswith(")+7.0")


def test_factors_that_no_operator_lets_through_come_last() -> None:
    nodes = [*ENTRY, node("Sigmoid", "xd", "s"), node("Mul", "xd s", "m"), *ended("m")]
    swish = texts(check(model(*nodes), STEPS["ys"]))[1]
    assert swish.startswith("elementwise shape=60x7 act=u8 expr=round(silu((x0-120.0)*0.05")


def test_nodes_that_move_elements_move_codes() -> None:
    nodes = [*ENTRY, node("MaxPool", "xd", "p", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])]
    nodes += [node("QuantizeLinear", "p xs xz", "pq"), node("DequantizeLinear", "pq xs xz", "pd")]
    nodes += [node("Transpose", "pd", "y", perm=[0, 2, 3, 1])]
    assert texts(check(model(*nodes), STEPS["xs"]))[1] == "MaxPool"
    other = [*nodes[:3], node("QuantizeLinear", "p ys xz", "pq"), node("DequantizeLinear", "pq ys xz", "y")]
    assert "MaxPool" in texts(check(model(*other), STEPS["ys"]))


def test_gemm_with_a_bias_is_a_product_of_codes() -> None:
    nodes = [*ENTRY, node("GlobalAveragePool", "xd", "p"), node("Flatten", "p", "f")]
    nodes += [node("QuantizeLinear", "f zs zz", "fq"), node("DequantizeLinear", "fq zs zz", "fd")]
    nodes += [node("DequantizeLinear", "g gs gz", "gd", axis=0), node("Gemm", "fd gd", "y", transB=1)]
    product = texts(check(model(*nodes, rank=2), 0.02))[-1]
    assert product == "matmul m=2 n=5 k=6 act=u8 weight=i8 out=f32 epilogue=y*b0 zero=true"


def test_a_bias_that_is_added_to_codes_is_part_of_the_product_before() -> None:
    nodes = [*ENTRY, node("GlobalAveragePool", "xd", "p"), node("Flatten", "p", "f")]
    nodes += [node("QuantizeLinear", "f zs zz", "fq"), node("DequantizeLinear", "fq zs zz", "fd")]
    nodes += [node("DequantizeLinear", "h gs gz", "hd", axis=1), node("MatMul", "fd hd", "m")]
    nodes += [node("QuantizeLinear", "m zs zz", "mq"), node("DequantizeLinear", "mq zs zz", "md")]
    nodes += [node("Add", "md row", "a"), node("QuantizeLinear", "a ys yz", "aq"), node("Flatten", "aq", "bq")]
    nodes += [node("DequantizeLinear", "bq ys yz", "y")]
    product = texts(check(model(*nodes, rank=2), STEPS["ys"]))[-3]
    assert product.startswith("matmul m=2 n=5 k=6 act=u8 weight=i8 out=u8 epilogue=round((min(max(round(y*b0/")
    assert product.endswith("+7.0 zero=true")


def test_onnxruntimes_own_operators_are_those_on_codes() -> None:
    ours = "com.microsoft"
    nodes = [
        ENTRY[0],
        node("QLinearConv", "xq xs xz w ws wz zs zz b", "cq", pads=[1, 1, 1, 1]),
        node("QLinearAdd", "cq zs zz xq xs xz ys yz", "aq", ours),
        node("QLinearGlobalAveragePool", "aq ys yz xs xz", "pq", ours),
        node("Flatten", "pq", "fq"),
        node("QGemm", "fq xs xz g gs gz gb ys yz", "gq", ours, transB=1),
        node("DequantizeLinear", "gq ys yz", "y"),
    ]
    imported = check(model(*nodes, rank=2), STEPS["ys"])
    kinds = [text.split(" ", 1)[0] for text in texts(imported)]
    assert kinds == ["elementwise", "conv2d", "elementwise", "elementwise", "GlobalAveragePool", "elementwise",
                     "Flatten", "matmul", "elementwise"]  # fmt: skip
    assert texts(imported)[7] == "matmul m=2 n=5 k=6 act=u8 weight=i8 out=u8 epilogue=round(y*b0+b1)+b2 zero=true"


def test_a_bias_for_each_row_is_added_to_numbers() -> None:
    nodes = [*ENTRY, node("GlobalAveragePool", "xd", "p"), node("Flatten", "p", "f")]
    nodes += [node("QuantizeLinear", "f zs zz", "fq"), node("DequantizeLinear", "fq zs zz", "fd")]
    nodes += [node("DequantizeLinear", "e es ez", "ed"), node("Gemm", "fd ed column", "y")]
    check(model(*nodes, rank=2), 0.02)


def test_a_bias_in_steps_of_blocks_is_added_to_numbers() -> None:
    bias = node("DequantizeLinear", "b thirds", "bd", axis=0, block_size=2)
    check(model(*ENTRY, WEIGHT[0], bias, node("Conv", "xd wd bd", "y")), 0.02)


def test_a_bias_whose_steps_do_not_fit_is_refused() -> None:
    bias = node("DequantizeLinear", "b thirds", "bd", axis=0)
    source = model(*ENTRY, WEIGHT[0], bias, node("Conv", "xd wd bd", "y"))
    with pytest.raises(InvalidGraph):
        GraphRuntime(import_model(source), NumpyKernel)({"x": np.zeros((2, 6, 5, 7), np.float32)})


@pytest.mark.parametrize("end", ["", "ys yz"])
def test_alpha_counts_for_the_bias_of_qgemm_too(end: str) -> None:
    nodes = [ENTRY[0], node("ReduceMax", "xq axes", "fq", keepdims=0)]
    nodes += [node("QGemm", f"fq xs xz g gs gz gb {end}", "gq" if end else "y", "com.microsoft", transB=1, alpha=4.0)]
    nodes += [node("DequantizeLinear", f"gq {end}", "y")] if end else []
    check(model(*nodes, rank=2), STEPS["ys"])


def test_sums_without_a_zero_point_have_the_type_of_their_operands() -> None:
    nodes = [node("QuantizeLinear", "x xs ix", "xq"), node("QLinearAdd", "xq xs ix xq xs ix ys", "aq", "com.microsoft")]
    check(model(*nodes, node("DequantizeLinear", "aq ys ez", "y")), STEPS["ys"])


def test_maxima_whose_places_are_read_are_found_among_numbers() -> None:
    nodes = [*ENTRY, node("MaxPool", "xd", "p places", kernel_shape=[3, 3]), node("Cast", "places", "n", to=1)]
    nodes += [node("QuantizeLinear", "p xs xz", "pq"), node("DequantizeLinear", "pq xs xz", "pd")]
    found = texts(import_model(model(*nodes, node("Add", "pd n", "y"))))
    assert "MaxPool" in found


@pytest.mark.parametrize(
    "made",
    [
        [node("Mul", "x many", "m")],
        [node("Round", "x", "r"), node("Mul", "r many", "t"), node("Div", "t high", "m")],
        [node("ConvInteger", "xq w xz", "i"), node("Cast", "i", "f", to=1), node("Div", "f many", "m")],
        [node("ConvInteger", "xq w xz", "i"), node("Cast", "i", "f", to=1), node("Div", "f many", "d"),
         node("Round", "d", "r"), node("Add", "r halves", "m")],
    ],
)  # fmt: skip
def test_a_cast_of_numbers_that_are_not_whole_cuts_them(made: list[onnx.NodeProto]) -> None:
    ends = [node("Clip", "m low most", "c"), node("Cast", "c", "q", to=TensorProto.UINT8), node("Cast", "q", "y", to=1)]
    assert "Cast" in texts(check(model(ENTRY[0], *made, *ends), 0.5))


@pytest.mark.parametrize("weight", ["u ws uz", "u ws"])
def test_other_weights_are_multiplied_in_float32(weight: str) -> None:
    dequantised = node("DequantizeLinear", weight, "wd", axis=0)
    nodes = [*ENTRY, dequantised, node("Conv", "xd wd", "c"), *ended("c", "zz", "zs")]
    found = texts(check(model(*nodes), STEPS["zs"]))
    assert not any("weight=i8" in text for text in found)
    assert any("act=f32 weight=f32" in text for text in found)


def test_a_model_without_its_weights_has_the_same_workloads() -> None:
    source = model(*CONVOLUTION, *ended("c"))
    proto = onnx.load_from_string(source)
    big = np.random.default_rng(0).integers(-90, 90, (6, 6, 20, 20)).astype(np.int8)
    next(t for t in proto.graph.initializer if t.name == "w").CopyFrom(numpy_helper.from_array(big, "w"))
    for made in proto.graph.node:
        if made.op_type == "Conv":
            made.attribute[0].ints[:] = [9, 9, 9, 9]
    sent = without_weights(proto.SerializeToString())
    assert len(sent) < big.nbytes
    assert texts(import_model(sent)) == texts(import_model(proto.SerializeToString()))
    assert not any(n.workload is None and n.reason != CONSTANT for n in import_model(sent).graph.nodes)
    assert import_model(sent).filled(0).graph.workloads() == import_model(sent).graph.workloads()


def test_a_model_without_its_weights_has_long_rows_of_zero_points() -> None:
    nodes = [*ENTRY, node("DequantizeLinear", "wide es ez", "wd"), node("MatMul", "xd wd", "m"), *ended("m")]
    source = model(*nodes)
    assert texts(import_model(source))[1].endswith("out=u8 epilogue=round(y*b0)+b1 zero=true")
    assert texts(import_model(without_weights(source))) == texts(import_model(source))
