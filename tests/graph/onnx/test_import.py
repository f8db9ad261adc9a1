"""What models become: which nodes are workloads, which are fused, which are left over and why."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from fettle.graph.onnx_import import Imported, import_model, without_weights


def model(body: str, opset: int = 24, weights: dict[str, tuple[int, ...]] | None = None) -> bytes:
    text = f'<ir_version: 8, opset_import: ["" : {opset}, "com.microsoft" : 1]>' + body
    proto = parser.parse_model(text)
    rng = np.random.default_rng(0)
    for name, shape in (weights or {}).items():
        proto.graph.initializer.append(numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name))
    return proto.SerializeToString()


def check_covered(imported: Imported) -> None:
    """Every node of the model is covered exactly once, and leftovers say why."""
    covered = Counter(name for node in imported.graph.nodes for name in node.covers)
    assert covered == Counter(node.name for node in imported.model.graph.node)
    assert all(node.reason for node in imported.graph.unsupported())


def workloads(body: str, opset: int = 24, weights: dict[str, tuple[int, ...]] | None = None) -> list[str]:
    imported = import_model(model(body, opset, weights))
    check_covered(imported)
    return [str(node.workload) for node in imported.graph.nodes if node.workload]


def reasons(body: str, weights: dict[str, tuple[int, ...]] | None = None) -> dict[str, str]:
    imported = import_model(model(body, weights=weights))
    check_covered(imported)
    return {node.name: node.reason for node in imported.graph.unsupported()}


@pytest.mark.parametrize(
    ("x", "w", "y", "expected"),
    [
        ("2,3,8", "8,5", "2,3,5", "matmul m=6 n=5 k=8 act=f32 rhs=f32"),
        ("8", "8,5", "5", "matmul m=1 n=5 k=8 act=f32 rhs=f32"),
        ("3,8", "8", "3", "matmul m=3 n=1 k=8 act=f32 rhs=f32"),
        ("2,4,3,8", "2,4,8,5", "2,4,3,5", "matmul batch=8 m=3 n=5 k=8 act=f32 rhs=f32"),
        ("2,4,3,8", "1,1,8,5", "2,4,3,5", "matmul m=24 n=5 k=8 act=f32 rhs=f32"),
    ],
)
def test_products_become_matmuls_with_leading_axes_joined(x: str, w: str, y: str, expected: str) -> None:
    assert workloads(f"g (float[{x}] x, float[{w}] w) => (float[{y}] y) {{ y = MatMul(x, w) }}") == [expected]


def test_initializers_are_weights_and_so_are_constants_and_what_follows_from_them() -> None:
    body = "g (float[2,40] x) => (float[2,50] y) { t = Transpose(w) y = MatMul(x, t) }"
    assert workloads(body, weights={"w": (50, 40)}) == ["matmul m=2 n=50 k=40 act=f32 weight=f32"]
    assert reasons(body, weights={"w": (50, 40)}) == {"Transpose_0": "computed once, from constants only"}
    constant = "g (float[2,2] x) => (float[2,1] y) { w = Constant<value = float[2,1] {1.0, 2.0}>() y = MatMul(x, w) }"
    assert workloads(constant) == ["matmul m=2 n=1 k=2 act=f32 weight=f32"]


def test_inputs_named_in_the_metadata_are_weights() -> None:
    proto = onnx.load_from_string(model("g (float[2,8] x, float[8,5] w) => (float[2,5] y) { y = MatMul(x, w) }"))
    helper.set_model_props(proto, {"fettle.weights": '["w"]'})
    graph = import_model(proto.SerializeToString()).graph
    assert [str(w) for w, _ in graph.workloads()] == ["matmul m=2 n=5 k=8 act=f32 weight=f32"]
    assert [tensor.name for tensor in graph.inputs] == ["x"]


def test_initializers_that_are_also_inputs_are_weights() -> None:
    body = "g (float[2,8] x, float[8,5] w) => (float[2,5] y) { y = MatMul(x, w) }"
    assert workloads(body, weights={"w": (8, 5)}) == ["matmul m=2 n=5 k=8 act=f32 weight=f32"]


@pytest.mark.parametrize("opset", [13, 18, 24])
def test_gemm_is_a_matmul_and_its_trimmings(opset: int) -> None:
    body = "g (float[2,8] x) => (float[2,5] y) { y = Gemm<transB=1, alpha=0.5, beta=2.0>(x, w, c) }"
    found = workloads(body, opset, {"w": (5, 8), "c": (2, 5)})
    assert found == ["matmul m=2 n=5 k=8 act=f32 weight=f32 epilogue=y*0.5+x0"]


def test_a_gemms_bias_is_an_epilogue() -> None:
    body = "g (float[2,8] x) => (float[2,5] y) { y = Gemm(x, w, c) }"
    assert workloads(body, weights={"w": (8, 5), "c": (5,)}) == ["matmul m=2 n=5 k=8 act=f32 weight=f32 epilogue=y+b0"]


NBITS = (
    "g (float[1,3,100] x, uint8[8,4,{bytes}] b, float[8,4] s{zp}) => (float[1,3,8] y) "
    "{{ y = com.microsoft.MatMulNBits<K=100, N=8, bits={bits}, block_size=32{level}>(x, b, s{z}) }}"
)


@pytest.mark.parametrize(
    ("bits", "level", "zp", "expected"),
    [
        (4, ", accuracy_level=4", "", "weight=u4:32/f32"),
        (4, "", "", "weight=u4:32/f32 compute=f32"),
        (4, ", accuracy_level=1", "", "weight=u4:32/f32 compute=f32"),
        (8, ", accuracy_level=4", ", uint8[8,4] z", "weight=u8:32:zp/f32"),
        (2, ", accuracy_level=4", ", uint8[8,1] z", "weight=u2:32:zp/f32"),
        (3, ", accuracy_level=4", "", "weight=u3:32/f32"),
    ],
)
def test_quantised_products_carry_their_format(bits: int, level: str, zp: str, expected: str) -> None:
    body = NBITS.format(bytes=4 * bits, bits=bits, level=level, zp=zp, z=", z" if zp else "")
    proto = onnx.load_from_string(model(body))
    names = ["b", "s", "z"] if zp else ["b", "s"]
    helper.set_model_props(proto, {"fettle.weights": str(names).replace("'", '"')})
    imported = import_model(proto.SerializeToString())
    check_covered(imported)
    (node,) = imported.graph.nodes
    assert str(node.workload) == f"matmul m=3 n=8 k=100 act=f32 {expected}"
    assert node.inputs == (("x",), tuple(names))


def test_quantised_products_of_dynamic_weights_are_left_over() -> None:
    body = NBITS.format(bytes=16, bits=4, level="", zp="", z="")
    assert reasons(body) == {"MatMulNBits_0": "quantised weight 'b' is not a constant"}


def test_shapes_flow_through_operators_the_checker_does_not_know() -> None:
    body = (
        "g (float[1,2,64] x, uint8[64,2,16] b, float[64,2] s, float[64] w) => (float[1,2,64] y) {"
        " p = com.microsoft.MatMulNBits<K=64, N=64, bits=4, block_size=32>(x, b, s)"
        " n = SimplifiedLayerNormalization<axis=-1, epsilon=0.000001>(p, w)"
        " q = com.microsoft.MatMulNBits<K=64, N=64, bits=4, block_size=32>(n, b, s)"
        " y = Softmax(q) }"
    )
    proto = onnx.load_from_string(model(body))
    helper.set_model_props(proto, {"fettle.weights": '["b", "s", "w"]'})
    (product, twice), (norm, _), (softmax, _) = import_model(proto.SerializeToString()).graph.workloads()
    assert (str(product), twice) == ("matmul m=2 n=64 k=64 act=f32 weight=u4:32/f32 compute=f32", 2)
    assert str(norm) == "rmsnorm rows=2 cols=64 act=f32 eps=1e-06"
    assert str(softmax) == "softmax rows=2 cols=64 act=f32"


@pytest.mark.parametrize("opset", [13, 17, 23, 24])
def test_simplified_layer_normalisation_is_rms_normalisation_at_every_opset(opset: int) -> None:
    proto = onnx.load_from_string(model("g (float[2,8] x, float[2,8] r) => (float[2,8] y) { y = Add(x, r) }", opset))
    node = helper.make_node(
        "SkipSimplifiedLayerNormalization", ["x", "r", "w"], ["y", "", "", "s"], domain="com.microsoft", epsilon=1e-5
    )
    del proto.graph.node[:]
    proto.graph.node.append(node)
    proto.graph.output.append(helper.make_tensor_value_info("s", TensorProto.FLOAT, [2, 8]))
    proto.graph.initializer.append(numpy_helper.from_array(np.ones(8, np.float32), "w"))
    imported = import_model(proto.SerializeToString())
    check_covered(imported)
    assert [str(w) for w, _ in imported.graph.workloads()] == [
        "elementwise shape=2x8 act=f32 expr=x0+x1",
        "rmsnorm rows=2 cols=8 act=f32",
    ]


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ("a = Sigmoid(x) y = Mul(x, a)", "silu(x0)"),
        ("a = Swish(x) y = Mul(a, z)", "silu(x0)*x1"),
        ("a = Swish(x) y = Mul(z, a)", "x0*silu(x1)"),
        ("a = Add(x, z) b = Relu(a) c = Neg(b) y = Tanh(c)", "tanh(-relu(x0+x1))"),
        ("a = Sub(x, z) b = Mul(a, two) y = Div(b, z)", "(x0-x1)*2.0/x1"),
        ("a = Add(x, x) y = Mul(a, z)", "(x0+x0)*x1"),
        ("y = Sub(two, x)", "2.0-x0"),
        ("y = Mul(x, tenth)", "x0*0.10000000149011612"),
        ("y = Swish<alpha=0.5>(x)", "x0*sigmoid(0.5*x0)"),
        ("a = Reciprocal(x) y = Add(a, z)", "1.0/x0+x1"),
        ("a = Pow(x, three) y = Pow(a, two)", "x0*x0*x0*(x0*x0*x0)"),
        ("a = Add(x, z) y = Gelu(a)", "(x0+x1)*0.5*(erf((x0+x1)*0.7071067811865476)+1.0)"),
        ('y = Gelu<approximate="tanh">(x)', "x0*0.5*(tanh((x0+x0*x0*x0*0.044715)*0.7978845608028654)+1.0)"),
        ("s = Unsqueeze(x, first) t = Neg(s) u = Squeeze(t, first) y = Mul(u, z)", "-x0*x1"),
    ],
)
def test_chains_fuse_into_one_expression(nodes: str, expected: str) -> None:
    body = "g (float[2,3,4] x, float[2,3,4] z) => (float[2,3,4] y) "
    body += "<float two = {2.0}, float three = {3.0}, float[1] tenth = {0.1}, int64[1] first = {0}> "
    assert workloads(f"{body} {{ {nodes} }}") == [f"elementwise shape=6x4 act=f32 expr={expected}"]


def test_values_that_others_need_are_not_fused_away() -> None:
    body = "g (float[4] x) => (float[4] y, float[4] a) { a = Relu(x) y = Neg(a) }"
    assert [w.split("expr=")[1] for w in workloads(body)] == ["relu(x0)", "-x0"]
    twice = "g (float[4] x) => (float[4] y) { a = Relu(x) b = Neg(a) y = Add(b, a) }"
    assert [w.split("expr=")[1] for w in workloads(twice)] == ["relu(x0)", "-x0+x0"]
    viewed = (
        "g (float[4] x) => (float[4] y, float[1,4] a) <int64[1] i = {0}> { b = Relu(x) a = Unsqueeze(b, i) y = Neg(b) }"
    )
    assert [w.split("expr=")[1] for w in workloads(viewed)] == ["relu(x0)", "-x0"]
    captured = (
        "g (float[4] x, bool c) => (float[4] y, float[4] r) { a = Relu(x) y = Neg(a) "
        "r = If<then_branch = t () => (float[4] o) { o = Identity(a) },"
        " else_branch = e () => (float[4] o) { o = Identity(x) }>(c) }"
    )
    assert [w.split("expr=")[1] for w in workloads(captured)] == ["relu(x0)", "-x0"]


def test_chains_too_long_for_one_expression_are_cut() -> None:
    nodes = "a0 = Neg(x) " + " ".join(f"a{i} = Neg(a{i - 1})" for i in range(1, 100)) + " y = Relu(a99)"
    found = workloads(f"g (float[4] x) => (float[4] y) {{ {nodes} }}")
    assert 3 <= len(found) <= 5
    assert sum(text.count("-") + text.count("relu") for text in found) == 101


def test_a_fused_chain_covers_its_nodes_in_order() -> None:
    imported = import_model(model("g (float[4] x) => (float[4] y) { [a] t = Relu(x) [b] u = Neg(t) [c] y = Exp(u) }"))
    (node,) = imported.graph.nodes
    assert (node.name, node.covers, node.inputs, node.outputs) == ("c", ("a", "b", "c"), (("x",),), ("y",))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("g (float[2,4] x) => (float[2,4] y) { [n] y = Softmax<axis=0>(x) }", "last axis"),
        ("g (float[2,4] x, float[4] b) => (float[2,4] y) { [n] y = Add(x, b) }", "broadcast"),
        ("g (double[2,4] x) => (double[2,4] y) { [n] y = Relu(x) }", "DOUBLE"),
        ("g (int64[2,4] x) => (int64[2,4] y) { [n] y = Neg(x) }", "INT64"),
        ("g (float[2,4] x) => (float[4,2] y) { [n] y = Transpose(x) }", "Transpose"),
        ("g (float[2,4] x, float z) => (float[2,4] y) { [n] y = Pow(x, z) }", "broadcast"),
        ("g (float[2,4] x) => (float[2,4] y) <float z = {2.5}> { [n] y = Pow(x, z) }", "Pow"),
        ("g (float[2,4] x, float[4] s) => (float[2,4] y) { [n] y = RMSNormalization(x, s) }", "not a constant"),
        ("g (float[2,4] x, float[4] s) => (float[2,4] y) { [n] y = LayerNormalization(x, s) }", "not a constant"),
        (
            "g (float[2,4] x) => (float[2,4] y, float[2,1] m) <float[4] s = {1, 2, 3, 4}> "
            "{ [n] y, m = LayerNormalization(x, s) }",
            "whose mean",
        ),
        (
            "g (float[2,4] x, float[4] s, float[4] b) => (float[2,4] y) { [n] y = LayerNormalization(x, s, b) }",
            "not a constant",
        ),
        ("g (float[0,4] x) => (float[0,4] y) { [n] y = Relu(x) }", "empty"),
        ("g (float[2,1,3,4] x, float[1,5,4,2] w) => (float[2,5,3,2] y) { [n] y = MatMul(x, w) }", "broadcast"),
    ],
)
def test_what_is_left_over_says_why(body: str, why: str) -> None:
    assert why in reasons(body)["n"]


def test_layer_normalisation_with_constant_weights_is_a_workload() -> None:
    text = (
        "g (float[2,3,8] x) => (float[2,3,8] y) <float[8] s = {1,1,1,1,1,1,1,1}, float[8] b = {0,0,0,0,0,0,0,0}>"
        " { y = LayerNormalization<epsilon=0.000001>(x, s, b) }"
    )
    imported = import_model(onnx.load_from_string(model(text)).SerializeToString())
    check_covered(imported)
    assert [str(w) for w, _ in imported.graph.workloads()] == ["layernorm rows=6 cols=8 act=f32 eps=1e-06"]


def test_unknown_domains_are_left_over_and_what_they_declare_is_believed() -> None:
    text = (
        '<ir_version: 8, opset_import: ["" : 24, "own" : 1]> g (float[2,4] x) => (float[2,4] y)'
        " <float[2,4] a> { [n] a = own.Magic(x) y = Softmax(a) }"
    )
    graph = import_model(parser.parse_model(text).SerializeToString()).graph
    assert [str(node.workload or node.reason) for node in graph.nodes] == [
        "no workload for operator own.Magic",
        "softmax rows=2 cols=4 act=f32",
    ]
    silent = text.replace("<float[2,4] a>", "").replace("(float[2,4] y)", "(float[n,4] y)")
    graph = import_model(parser.parse_model(silent).SerializeToString()).graph
    assert [bool(node.workload) for node in graph.nodes] == [False, False]
    assert "'a' is not known" in graph.nodes[1].reason
    assert graph.outputs == ()


def test_symbolic_dimensions_are_bound_in_declarations_too() -> None:
    text = (
        '<ir_version: 8, opset_import: ["" : 24, "own" : 1]> g (float[batch,4] x) => (float[batch,4] y)'
        " <float[batch,4] a> { a = own.Magic(x) y = Softmax(a) }"
    )
    (workload, _), *_ = import_model(parser.parse_model(text).SerializeToString(), {"batch": 3}).graph.workloads()
    assert str(workload) == "softmax rows=3 cols=4 act=f32"


def test_functions_of_the_model_are_inlined() -> None:
    text = (
        '<ir_version: 8, opset_import: ["" : 24, "own" : 1]> g (float[2,4] x) => (float[2,4] y) { y = own.gate(x) }'
        ' <opset_import: ["" : 24], domain: "own"> gate (a) => (b) { s = Sigmoid(a) b = Mul(a, s) }'
    )
    (workload, _), *rest = import_model(parser.parse_model(text).SerializeToString()).graph.workloads()
    assert (str(workload), rest) == ("elementwise shape=2x4 act=f32 expr=silu(x0)", [])


def test_shapes_computed_in_the_model_are_followed() -> None:
    body = (
        "g (float[b,12] x) => (float[b,c,4] y) <int64[1] zero = {0}, int64[2] rest = {3, 4}> {"
        " s = Shape(x) n = Gather(s, zero) t = Concat<axis=0>(n, rest) r = Reshape(x, t) y = Softmax(r) }"
    )
    (workload, _), *_ = import_model(model(body), {"b": 5}).graph.workloads()
    assert str(workload) == "softmax rows=15 cols=4 act=f32"


def test_same_workloads_without_the_weights() -> None:
    body = (
        "g (float[2,64] x) => (float[2,64] y) <float[2] pair = {2.0, 3.0}, float half = {0.5}>"
        " { a = Gemm<transB=1>(x, w) b = RMSNormalization(a, s) c = Mul(b, half) d = MatMul(c, v) y = Relu(d) }"
    )
    full = model(body, weights={"w": (1100, 64), "s": (1100,), "v": (1100, 64)})
    small = without_weights(full)
    assert len(small) < len(full) / 100
    assert import_model(small).graph.workloads() == import_model(full).graph.workloads()
    assert without_weights(small) == small
