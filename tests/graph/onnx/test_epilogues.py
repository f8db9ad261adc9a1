"""Products with what follows them: convolution, bias, activation, residual."""

from __future__ import annotations

import onnx
import pytest
from onnx import helper

from fettle.graph.graph import Graph
from fettle.graph.onnx_import import import_model


def graph_of(body: str, weights: dict[str, tuple[int, ...]]) -> Graph:
    text = f'<ir_version: 10, opset_import: ["" : 20]> {body}'
    proto = onnx.parser.parse_model(text)
    for name, shape in weights.items():
        size = 1
        for extent in shape:
            size *= extent
        proto.graph.initializer.append(helper.make_tensor(name, onnx.TensorProto.FLOAT, shape, [0.5] * size))
    return import_model(proto.SerializeToString()).graph


def texts(graph: Graph) -> list[str]:
    return [str(workload) for workload, _ in graph.workloads()]


def test_bias_activation_and_residual_join_the_product() -> None:
    graph = graph_of(
        "g (float[2,3,8] x, float[2,3,5] r) => (float[2,3,5] y) "
        "{ p = MatMul(x, w)  q = Add(c, p)  a = Relu(q)  y = Sub(r, a) }",
        {"w": (8, 5), "c": (5,)},
    )
    assert texts(graph) == ["matmul m=6 n=5 k=8 act=f32 weight=f32 epilogue=x0-relu(b0+y)"]
    (node,) = graph.nodes
    assert node.inputs == (("x",), ("w",), ("c",), ("r",))
    assert len(node.covers) == 4


def test_a_product_that_others_read_too_keeps_its_result() -> None:
    graph = graph_of(
        "g (float[2,8] x) => (float[2,5] y, float[5,2] z) "
        "{ p = MatMul(x, w)  a = Sigmoid(p)  y = Mul(p, a)  z = Transpose(p) }",
        {"w": (8, 5)},
    )
    assert texts(graph) == ["matmul m=2 n=5 k=8 act=f32 weight=f32", "elementwise shape=2x5 act=f32 expr=silu(x0)"]


def test_two_products_are_not_one() -> None:
    graph = graph_of(
        "g (float[2,8] x) => (float[2,5] y) { p = MatMul(x, w)  q = MatMul(x, v)  y = Mul(p, q) }",
        {"w": (8, 5), "v": (8, 5)},
    )
    assert sorted(texts(graph)) == [
        "matmul m=2 n=5 k=8 act=f32 weight=f32",
        "matmul m=2 n=5 k=8 act=f32 weight=f32 epilogue=y*x0",
    ]
    assert graph.nodes[-1].workload is not None
    assert graph.nodes[-1].workload["epilogue"] is not None  # it runs after the other, whose result it reads


def test_convolutions_take_bias_batch_normalisation_leftovers_and_residual() -> None:
    graph = graph_of(
        "g (float[1,3,9,9] x, float[1,4,5,5] r) => (float[1,4,5,5] y) "
        "{ p = Conv<strides=[2,2], pads=[1,1,1,1]>(x, w, b)  s = Mul(p, k)  t = Add(s, r)  y = Relu(t) }",
        {"w": (4, 3, 3, 3), "b": (4,), "k": (1, 4, 1, 1)},
    )
    assert texts(graph) == [
        "conv2d n=1 c=3 h=9 w=9 oc=4 kh=3 kw=3 stride=2 pad=1 act=f32 weight=f32 epilogue=relu((y+b0)*b1+x0)"
    ]
    assert graph.nodes[0].inputs == (("x",), ("w",), ("b",), ("k",), ("r",))


def test_an_activation_that_reads_the_product_often_joins_it() -> None:
    graph = graph_of(
        "g (float[2,3,8] x) => (float[2,3,5] y) <float root = {2.0}, float one = {1.0}, float half = {0.5}> "
        "{ p = MatMul(x, w)  q = Add(c, p)  d = Div(q, root)  e = Erf(d)  f = Add(e, one)  g = Mul(q, f) "
        "  y = Mul(g, half) }",
        {"w": (8, 5), "c": (5,)},
    )
    assert texts(graph) == [
        "matmul m=6 n=5 k=8 act=f32 weight=f32 epilogue=(b0+y)*(erf((b0+y)/2.0)+1.0)*0.5",
    ]
    (node,) = graph.nodes
    assert node.covers == tuple(
        n + "_" + str(i) for i, n in enumerate(["MatMul", "Add", "Div", "Erf", "Add", "Mul", "Mul"])
    )


def test_a_function_of_the_product_is_not_computed_twice() -> None:
    graph = graph_of(
        "g (float[2,8] x) => (float[2,5] y) { p = MatMul(x, w)  t = Tanh(p)  e = Exp(t)  y = Mul(e, t) }", {"w": (8, 5)}
    )
    assert texts(graph) == [
        "matmul m=2 n=5 k=8 act=f32 weight=f32 epilogue=tanh(y)",
        "elementwise shape=2x5 act=f32 expr=exp(x0)*x0",
    ]


def test_a_residual_behind_a_reshape_joins_the_product() -> None:
    """As PyTorch's exporter writes GPT-2: products of matrices between tensors of three axes."""
    graph = graph_of(
        "g (float[2,3,8] x, float[2,3,5] r) => (float[2,3,5] y) <int64[2] flat = {6, 8}, int64[3] deep = {2, 3, 5}> "
        "{ f = Reshape(x, flat)  p = MatMul(f, w)  d = Reshape(p, deep)  y = Add(r, d) }",
        {"w": (8, 5)},
    )
    assert texts(graph) == ["matmul m=6 n=5 k=8 act=f32 weight=f32 epilogue=x0+y"]
    reshape, product = graph.nodes
    assert (reshape.covers, product.inputs) == (("Reshape_0",), (("f",), ("w",), ("r",)))


@pytest.mark.parametrize(
    ("attributes", "given", "shape", "text"),
    [
        ("group=3", "1,3,9,9", "6,1,3,3", "c=3 h=9 w=9 oc=6 kh=3 kw=3 group=3"),
        ("pads=[0,1,2,3], strides=[1,2]", "1,3,9,9", "3,3,3,3", "c=3 h=9 w=9 oc=3 kh=3 kw=3 stride=1x2 pad=0x1x2x3"),
        ('auto_pad="SAME_UPPER", strides=[2,2]', "1,3,8,9", "4,3,3,3",
         "c=3 h=8 w=9 oc=4 kh=3 kw=3 stride=2 pad=0x1x1x1"),
        ('auto_pad="SAME_LOWER", strides=[2,2]', "1,3,8,8", "4,3,3,3",
         "c=3 h=8 w=8 oc=4 kh=3 kw=3 stride=2 pad=1x1x0x0"),
        ('auto_pad="VALID", dilations=[2,3]', "1,3,9,9", "4,3,3,2", "c=3 h=9 w=9 oc=4 kh=3 kw=2 dilation=2x3"),
        ("pads=[1,2], dilations=[2], strides=[3], group=2", "1,4,20", "8,2,5",
         "c=4 h=1 w=20 oc=8 kh=1 kw=5 stride=1x3 pad=0x1x0x2 dilation=1x2 group=2"),
    ],
)  # fmt: skip
def test_any_window_over_one_or_two_axes_is_a_workload(attributes: str, given: str, shape: str, text: str) -> None:
    symbols = ",".join("nabd"[: given.count(",") + 1])
    graph = graph_of(
        f"g (float[{given}] x) => (float[{symbols}] y) {{ y = Conv<{attributes}>(x, w) }}",
        {"w": tuple(map(int, shape.split(",")))},
    )
    assert str(graph.nodes[0].workload) == f"conv2d n=1 {text} act=f32 weight=f32"


def test_a_convolution_over_three_axes_is_left_over_with_a_reason() -> None:
    graph = graph_of("g (float[1,3,5,5,5] x) => (float[n,a,b,c,d] y) { y = Conv(x, w) }", {"w": (4, 3, 3, 3, 3)})
    assert graph.nodes[0].workload is None
    assert "only one and two" in graph.nodes[0].reason
