"""Attention nodes: which are workloads, and that the workload means what the node means."""

from __future__ import annotations

import tracemalloc

import numpy as np
import onnx
import pytest
from onnx import parser
from onnx.reference import ReferenceEvaluator

from fettle.graph import data
from fettle.graph.onnx_import import import_model

TYPES = "float[1,4,{q},16] q, float[1,2,{kv},16] k, float[1,2,{kv},16] v"


def model(
    attributes: str = "", q: int = 5, kv: int = 5, inputs: str = "q, k, v", mask: str = "{q},{kv}"
) -> onnx.ModelProto:
    types = f"{TYPES}, float[{mask}] mask".format(q=q, kv=kv)
    return parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 23]>'
        f"g ({types}) => (float[1,4,{q},16] y) {{ y = Attention{attributes}({inputs}) }}"
    )


@pytest.mark.parametrize(
    ("attributes", "mask", "fields"),
    [
        ("", None, ""),
        ("<is_causal=1>", None, " causal=true"),
        ("<scale=0.25>", None, ""),
        ("<scale=0.5>", None, " scale=0.5"),
        ("", "5,5", " mask=1x1x5x5"),
        ("", "4,1,5", " mask=1x4x1x5"),
    ],
)
def test_plain_causal_and_masked_nodes_are_attention(attributes: str, mask: str | None, fields: str) -> None:
    proto = model(attributes, inputs="q, k, v, mask" if mask else "q, k, v", mask=mask or "5,5")
    (node,) = import_model(proto.SerializeToString()).graph.nodes
    assert node.workload is not None
    assert str(node.workload) == f"attention heads=4 kv_heads=2 q=5 kv=5 dim=16 act=f32{fields}"
    q, k, v, *added = (np.asarray(o) for o in data.operands(node.workload, 0))
    shape = tuple(d.dim_value for d in proto.graph.input[3].type.tensor_type.shape.dim)
    feeds = {"q": q, "k": k, "v": v, "mask": added[0].reshape(shape) if added else np.zeros(shape, np.float32)}
    (y,) = ReferenceEvaluator(proto).run(None, feeds)
    right = data.reference(node.workload, (q, k, v, *added))
    assert (np.abs(y - right.expected) <= right.tolerance).all()


@pytest.mark.parametrize(
    ("proto", "reason"),
    [
        (model(inputs="q, k, v, mask", mask="5,1"), "not broadcast"),
        (model("<softcap=2.0>"), "softcap"),
        (model("<is_causal=1>", q=3, inputs="q, k, v, mask", mask="3,5"), "first key"),
    ],
)
def test_other_nodes_are_left_over_with_a_reason(proto: onnx.ModelProto, reason: str) -> None:
    (node,) = import_model(proto.SerializeToString()).graph.unsupported()
    assert reason in node.reason


def test_keys_that_are_too_large_are_not_followed() -> None:
    """Following them would take six gigabytes."""
    proto = parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 23]>'
        "g (float[1,1,1,8] q, float[1,1,8,200000000] k, float[1,1,200000000,8] v) => (float[1,1,1,8] y) {"
        " logits = MatMul(q, k) p = Softmax(logits) y = MatMul(p, v) }"
    )
    tracemalloc.start()
    try:
        workloads = import_model(proto.SerializeToString()).graph.workloads()
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()
    assert "attention" not in {workload.operator for workload, _ in workloads}
