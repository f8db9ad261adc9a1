"""Attention nodes: which are workloads, and that the workload means what the node means."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import parser
from onnx.reference import ReferenceEvaluator

from fettle.graph import data
from fettle.graph.onnx_import import import_model

TYPES = "float[1,4,{q},16] q, float[1,2,{kv},16] k, float[1,2,{kv},16] v"


def model(attributes: str = "", q: int = 5, kv: int = 5, inputs: str = "q, k, v") -> onnx.ModelProto:
    types = TYPES.format(q=q, kv=kv)
    return parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 23]>'
        f"g ({types}, float[{q},{kv}] mask) => (float[1,4,{q},16] y) {{ y = Attention{attributes}({inputs}) }}"
    )


@pytest.mark.parametrize("attributes", ["", "<is_causal=1>", "<scale=0.25>"])
def test_plain_and_causal_nodes_are_attention(attributes: str) -> None:
    proto = model(attributes)
    (node,) = import_model(proto.SerializeToString()).graph.nodes
    assert node.workload is not None
    causal = " causal=true" if "causal" in attributes else ""
    assert str(node.workload) == f"attention heads=4 kv_heads=2 q=5 kv=5 dim=16 act=f32{causal}"
    q, k, v = (np.asarray(o) for o in data.operands(node.workload, 0))
    feeds = {"q": q, "k": k, "v": v, "mask": np.zeros((5, 5), np.float32)}
    (y,) = ReferenceEvaluator(proto).run(None, feeds)
    right = data.reference(node.workload, (q, k, v))
    assert (np.abs(y - right.expected) <= right.tolerance).all()


@pytest.mark.parametrize(
    ("proto", "reason"),
    [
        (model(inputs="q, k, v, mask"), "mask"),
        (model("<softcap=2.0>"), "softcap"),
        (model("<scale=0.5>"), "scale"),
        (model("<is_causal=1>", q=3), "first key"),
    ],
)
def test_other_nodes_are_left_over_with_a_reason(proto: onnx.ModelProto, reason: str) -> None:
    (node,) = import_model(proto.SerializeToString()).graph.unsupported()
    assert reason in node.reason
