"""Attention as onnxruntime's generators and optimiser write it: workloads that compute what onnxruntime computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from fettle.differences import compare
from fettle.graph.onnx_import import import_model
from fettle.runtime import GraphRuntime
from tests.face.test_runtime import NumpyKernel

Arrays = Mapping[str, np.ndarray]


def build(
    operator: str,
    inputs: Mapping[str, np.ndarray | None],
    outputs: Mapping[str, tuple[int, ...]],
    constants: Arrays,
    attributes: Mapping[str, Any],
) -> ModelProto:
    """One node of onnxruntime's domain over these inputs, of which None are left out and constants are initializers."""
    given = {name: array for name, array in inputs.items() if array is not None}
    node = helper.make_node(
        operator, [name if name in given | constants else "" for name in inputs], list(outputs),
        name="node", domain="com.microsoft", **attributes,
    )  # fmt: skip
    declared = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in given.items()
    ]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items() if name]
    stored = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(
        helper.make_graph([node], "g", declared, results, stored), opset_imports=opsets, ir_version=8
    )


def workloads_of(model: ModelProto, inputs: Mapping[str, np.ndarray | None]) -> list[str]:
    """Workloads, after the runtime computed with them what onnxruntime computes."""
    feeds = {name: array for name, array in inputs.items() if array is not None}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it takes presents longer than the past for shared
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    theirs = dict(zip(names, session.run(None, feeds), strict=True))
    imported = import_model(model.SerializeToString())
    ours = GraphRuntime(imported, NumpyKernel)(feeds)
    for name, difference in compare(ours, theirs).items():
        assert difference.nrmse < 5e-6, name
    return [str(node.workload) for node in imported.graph.nodes if node.workload is not None]


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, np.float32)


def grouped(
    batch: int, new: int, past: int, kv_heads: int, group: int, size: int, *,
    packed: bool = False, rotary: str = "", biased: bool = False, seed: int = 0, **attributes: Any,
) -> tuple[ModelProto, dict[str, np.ndarray | None]]:  # fmt: skip
    """GroupQueryAttention. ``rotary`` is '', 'halves', 'pairs' or 'part'."""
    rng, heads, total = np.random.default_rng(seed), kv_heads * group, past + new
    width, kv_width = heads * size, kv_heads * size
    cache = normal(rng, 2, batch, kv_heads, past, size)
    inputs: dict[str, np.ndarray | None] = {
        "query": normal(rng, batch, new, width + 2 * kv_width if packed else width),
        "key": None if packed else normal(rng, batch, new, kv_width),
        "value": None if packed else normal(rng, batch, new, kv_width),
        "past_key": cache[0] if past else None,
        "past_value": cache[1] if past else None,
        "seqlens_k": np.full(batch, total - 1, np.int32),
        "total_sequence_length": np.array(total, np.int32),
    }
    angles = rng.random((total + 2, 8 if rotary == "part" else size // 2), np.float32)
    constants = {"cos": np.cos(angles), "sin": np.sin(angles)} if rotary else {}
    inputs |= dict.fromkeys(constants or ("", " "))
    if biased:
        inputs |= {"position_ids": None, "bias": normal(rng, 1, heads, new, total)}
    given = {"num_heads": heads, "kv_num_heads": kv_heads, "do_rotary": int(bool(rotary))}
    given |= {"rotary_interleaved": int(rotary == "pairs"), **attributes}
    present = (batch, kv_heads, total, size)
    outputs = {"y": (batch, new, width), "present_key": present, "present_value": present}
    return build("GroupQueryAttention", inputs, outputs, constants, given), inputs


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([(1, 6, 0), (2, 5, 0), (2, 1, 7), (1, 1, 7), (1, 3, 4), (3, 1, 0)]),
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.sampled_from([16, 32])),
    st.booleans(),
    st.sampled_from(["", "halves", "pairs", "part"]),
    st.booleans(),
    st.sampled_from([0.0, 0.4]),
    st.integers(0, 2**32 - 1),
)
def test_attention_of_a_generator_is_one_workload(
    lengths: tuple[int, int, int],
    extents: tuple[int, int, int],
    packed: bool,
    rotary: str,
    biased: bool,
    scale: float,
    seed: int,
) -> None:
    _batch, new, past = lengths
    kv_heads, group, size = extents
    options = {"packed": packed, "rotary": rotary, "biased": biased, "seed": seed}
    found = workloads_of(*grouped(*lengths, *extents, **options, scale=scale))
    (text,) = [t for t in found if t.startswith("attention")]
    fields = {f"heads={kv_heads * group}", f"q={new}", f"kv={past + new}", f"dim={size}"}
    fields |= {f"kv_heads={kv_heads}"} if group > 1 else set()
    fields |= {"causal=true"} if new > 1 and not biased else set()
    assert fields <= set(text.split())
    assert ("mask=" in text) == biased
