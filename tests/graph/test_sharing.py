"""The pass that shares one preparation among products: where it may, and where it should."""

from __future__ import annotations

import itertools

import pytest

from fettle.graph.errors import InvalidWorkload
from fettle.graph.graph import Graph, GraphNode
from fettle.graph.sharing import Seconds, alternatives, best, compare, shared, workloads
from fettle.graph.workload import Workload


def product(name: str, tensor: str = "x", weight: str = "u4:64/f32", rest: str = "") -> GraphNode:
    workload = Workload.parse(f"matmul m=2 n=32 k=128 act=f32 weight={weight} {rest}")
    return GraphNode(name, (name,), ((tensor,), (f"{name}.w", f"{name}.s")), (f"{name}.y",), workload)


def graph(*nodes: GraphNode) -> Graph:
    return Graph("g", nodes)


NORM = GraphNode("norm", ("norm",), (("in",),), ("x",), Workload.parse("rmsnorm rows=2 cols=128 act=f32"))
ATTENTION = graph(NORM, product("q"), product("k", weight="u2:64"), product("v"), product("o", "context"))


def test_products_of_one_tensor_read_one_preparation() -> None:
    (way,) = alternatives(ATTENTION, ["i8"])
    together = shared(ATTENTION, [way])
    assert [node.name for node in together.nodes] == ["norm", "x as i8:64/f32", "q", "k", "v", "o"]
    prepare = together.nodes[1]
    assert str(prepare.workload) == "quantize rows=2 cols=128 act=f32 out=i8:64/f32"
    assert prepare.inputs == (("x",),)
    assert [node.inputs[0] for node in together.nodes[2:5]] == [prepare.outputs] * 3
    assert [str(node.workload) for node in together.nodes[2:4]] == [
        "matmul m=2 n=32 k=128 act=i8:64/f32 weight=u4:64/f32",
        "matmul m=2 n=32 k=128 act=i8:64/f32 weight=u2:64",
    ]
    assert together.nodes[2].inputs[1:] == ATTENTION.nodes[1].inputs[1:]
    assert together.nodes[5] == ATTENTION.nodes[4]
    assert dict(workloads([way])) == {prepare.workload: 1, together.nodes[2].workload: 2, together.nodes[3].workload: 1}


@pytest.mark.parametrize(
    "other",
    [
        product("b", "y"),
        product("b", weight="u4:32/f32"),
        product("b", weight="f32"),
        product("b", rest="compute=f32"),
        product("b", weight="mxfp4"),
        NORM,
    ],
    ids=["another tensor", "other groups", "dense", "not rounded", "minifloats", "no product"],
)
def test_products_that_prepare_differently_share_nothing(other: GraphNode) -> None:
    assert alternatives(graph(product("a"), other)) == ()


def test_groups_that_no_preparation_has_are_left_alone() -> None:
    assert alternatives(graph(product("a", weight="u4:48"), product("b", weight="u4:48"))) == ()
    assert alternatives(graph(product("a", weight="u4:row"), product("b", weight="u4:row")), ["i8"])


def test_a_tensors_name_is_never_taken_twice() -> None:
    (way,) = alternatives(graph(product("x as i8:64/f32"), product("b"), product("c", "x as i8:64/f32")), ["i8"])
    assert way.together[0].outputs == ("x as i8:64/f32'",)


def test_an_unknown_way_to_prepare_is_refused() -> None:
    with pytest.raises(InvalidWorkload, match="i8 or lut4"):
        alternatives(ATTENTION, ["i7"])


def test_the_faster_way_wins_and_a_tie_stays_apart() -> None:
    def seconds(codes: float, tables: float, spread: float = 0.0) -> dict[Workload, Seconds]:
        """Of each kernel as it is: 10; a quarter of these is prepared."""
        result = {node.workload: 10.0 for node in ATTENTION.nodes}
        for way, time in zip(alternatives(ATTENTION), (codes, tables), strict=True):
            result |= {node.workload: time / 4 for node in way.together}
        return {w: Seconds(t, t - spread, t + spread) for w, t in result.items() if w is not None}

    def winner(times: dict[Workload, Seconds]) -> list[str]:
        return [way.format.element for way in best(compare(alternatives(ATTENTION), times.get))]

    assert winner(seconds(29.0, 31.0)) == ["i8"]
    assert winner(seconds(29.0, 28.0)) == ["lut4"]
    assert winner(seconds(30.0, 31.0)) == []
    assert winner(seconds(29.0, 31.0, spread=0.2)) == []
    unknown = seconds(1.0, 1.0)
    for way, place in itertools.product(alternatives(ATTENTION), (0, -1)):
        workload = way.together[place].workload
        assert workload is not None
        unknown.pop(workload, None)
    assert winner(unknown) == []
