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
        "g (float[2,8] x) => (float[2,5] y) { p = MatMul(x, w)  a = Sigmoid(p)  y = Mul(p, a) }", {"w": (8, 5)}
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


@pytest.mark.parametrize(
    ("attributes", "shape", "reason"),
    [("group=3", "3,1,3,3", "groups"), ("pads=[0,1,0,1]", "3,3,3,3", "uneven")],
)
def test_other_convolutions_are_left_over_with_a_reason(attributes: str, shape: str, reason: str) -> None:
    graph = graph_of(
        f"g (float[1,3,9,9] x) => (float[1,3,a,b] y) {{ y = Conv<{attributes}>(x, w) }}",
        {"w": tuple(map(int, shape.split(",")))},
    )
    assert graph.nodes[0].workload is None
    assert reason in graph.nodes[0].reason
