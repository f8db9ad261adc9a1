"""Attention as onnxruntime's generators and its optimiser write it: it computes what it computes there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from fettle.differences import compare
from fettle.graph.errors import Unsupported
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
    if batch > 1:
        constants["seqlens_k"], inputs["seqlens_k"] = np.full(batch, total - 1, np.int32), None
    if biased:
        inputs |= {"position_ids": None, "bias": normal(rng, 1, heads, new, total)}
    given = {"num_heads": heads, "kv_num_heads": kv_heads, "do_rotary": int(bool(rotary))}
    given |= {"rotary_interleaved": int(rotary == "pairs"), **attributes}
    present = (batch, kv_heads, total, size)
    outputs = {"y": (batch, new, width), "present_key": present, "present_value": present}
    return build("GroupQueryAttention", inputs, outputs, constants, given), inputs


@settings(max_examples=20, deadline=None)
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
    _, new, past = lengths
    kv_heads, group, size = extents
    options = {"packed": packed, "rotary": rotary, "biased": biased, "seed": seed}
    found = workloads_of(*grouped(*lengths, *extents, **options, scale=scale))
    (text,) = [t for t in found if t.startswith("attention")]
    fields = {f"heads={kv_heads * group}", f"q={new}", f"kv={past + new}", f"dim={size}"}
    fields |= {f"kv_heads={kv_heads}"} if group > 1 else set()
    fields |= {"causal=true"} if new > 1 and not biased else set()
    assert fields <= set(text.split())
    assert ("mask=" in text) == biased


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"softcap": 30.0}, "softcap=30.0"),
        ({"local_window_size": 4}, "local_window_size=4"),
        ({"smooth_softmax": 1}, "smooth_softmax=1"),
        ({"k_quant_type": "PER_TENSOR"}, "k_quant_type=PER_TENSOR"),
        ({"num_heads": 5}, "num_heads=5"),
    ],
)
def test_an_attribute_that_is_not_understood_is_named(change: dict[str, Any], reason: str) -> None:
    model, _ = grouped(1, 2, 3, 2, 2, 16)
    (node,) = model.graph.node
    kept = [attribute for attribute in node.attribute if attribute.name not in change]
    del node.attribute[:]
    node.attribute.extend([*kept, *(helper.make_attribute(name, value) for name, value in change.items())])
    (left,) = import_model(model.SerializeToString()).graph.unsupported()
    assert left.reason.startswith(f"com.microsoft.GroupQueryAttention with {reason}")
    with pytest.raises(Unsupported, match=reason):
        GraphRuntime(import_model(model.SerializeToString()), NumpyKernel)


def test_lengths_that_the_shapes_do_not_say_are_named() -> None:
    for constant in ("seqlens_k", "total_sequence_length"):
        model, inputs = grouped(1, 1, 3, 2, 2, 16)
        shorter = np.asarray(inputs[constant]) - 1
        model.graph.initializer.append(numpy_helper.from_array(shorter, constant))
        (left,) = import_model(model.SerializeToString()).graph.unsupported()
        assert f"{constant}={shorter.tolist()} where all sequences have 4 tokens" in left.reason


def test_several_sequences_whose_lengths_may_differ_are_refused() -> None:
    model, _ = grouped(2, 1, 3, 2, 2, 16)
    stored = [tensor for tensor in model.graph.initializer if tensor.name != "seqlens_k"]
    del model.graph.initializer[:]
    model.graph.initializer.extend(stored)
    model.graph.input.append(helper.make_tensor_value_info("seqlens_k", TensorProto.INT32, (2,)))
    (left,) = import_model(model.SerializeToString()).graph.unsupported()
    assert "seqlens_k of 2 sequences, which is not constant" in left.reason


def test_lengths_counted_from_a_mask_leave_no_nodes() -> None:
    model, inputs = grouped(1, 1, 3, 2, 2, 16)
    lengths, total = (value.name for value in model.graph.input[-2:])
    del model.graph.input[-2:]
    mask = np.ones((1, 4), np.int64)
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.INT64, mask.shape))
    for name, value in {"one": np.array(1), "last": np.array([1])}.items():
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    attention = model.graph.node.pop()
    model.graph.node.extend([
        helper.make_node("ReduceSum", ["mask", "last"], ["sum"], keepdims=0),
        helper.make_node("Sub", ["sum", "one"], ["less"]),
        helper.make_node("Cast", ["less"], [lengths], to=TensorProto.INT32),
        helper.make_node("Shape", ["mask"], ["shape"]),
        helper.make_node("Gather", ["shape", "one"], ["most"]),
        helper.make_node("Cast", ["most"], [total], to=TensorProto.INT32),
        attention,
    ])  # fmt: skip
    workloads_of(model, {**inputs, lengths: None, total: None, "mask": mask})
    left = {node.name for node in import_model(model.SerializeToString()).graph.nodes}
    assert all(name.startswith("node/") for name in left)


def test_a_cache_that_past_and_present_share_is_named() -> None:
    model, _ = grouped(1, 1, 8, 2, 1, 16)
    for output in model.graph.output[1:]:
        output.type.tensor_type.shape.dim[2].dim_value = 8
    (left,) = import_model(model.SerializeToString()).graph.unsupported()
    assert "present_key" in left.reason
    assert "shared buffer" in left.reason


PADDINGS = ("none", "lengths", "positions", "pairs")


def padding_of(kind: str, batch: int, queries: int, keys: int, rng: np.random.Generator) -> np.ndarray | None:
    """Some keys hidden, never the first: float32 leaves little of logits that are all 10 000 less."""
    if kind == "lengths":
        return rng.integers(1, keys + 1, batch, np.int32)
    if kind == "none":
        return None
    seen = rng.integers(0, 2, (batch, keys) if kind == "positions" else (batch, queries, keys), np.int32)
    seen[..., 0] = 1
    return seen


def multihead(
    batch: int, queries: int, new: int, past: int, heads: int, sizes: tuple[int, int], *,
    padding: str = "none", biased: bool = False, added: bool = False, seed: int = 0, **attributes: Any,
) -> tuple[ModelProto, dict[str, np.ndarray | None]]:  # fmt: skip
    """MultiHeadAttention; ``biased``: of the projections, ``added``: to the logits."""
    rng, total, (size, values_size) = np.random.default_rng(seed), past + new, sizes
    width, values_width = heads * size, heads * values_size
    inputs: dict[str, np.ndarray | None] = {
        "query": normal(rng, batch, queries, width),
        "key": normal(rng, batch, new, width),
        "value": normal(rng, batch, new, values_width),
        "b": None,
        "mask": padding_of(padding, batch, queries, total, rng),
        "added": normal(rng, 1, heads, queries, total) if added else None,
        "past_key": normal(rng, batch, heads, past, size) if past else None,
        "past_value": normal(rng, batch, heads, past, values_size) if past else None,
    }
    constants = {"b": normal(rng, 2 * width + values_width)} if biased else {}
    outputs = {"y": (batch, queries, values_width)}
    outputs |= {f"present_{x}": (batch, heads, total, n) for x, n in (("k", size), ("v", values_size)) if past}
    return build("MultiHeadAttention", inputs, outputs, constants, {"num_heads": heads, **attributes}), inputs


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from([(1, 5, 5, 0), (2, 3, 6, 0), (2, 1, 1, 4), (1, 3, 3, 2)]),
    st.tuples(st.integers(1, 3), st.sampled_from([8, 16])),
    st.sampled_from(PADDINGS),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0, 1]),
    st.sampled_from([0.0, 0.4]),
    st.integers(0, 2**32 - 1),
)
def test_attention_of_the_optimiser_is_one_workload(
    lengths: tuple[int, int, int, int],
    extents: tuple[int, int],
    padding: str,
    biased: bool,
    added: bool,
    causal: int,
    scale: float,
    seed: int,
) -> None:
    heads, size = extents
    options = {"padding": padding, "biased": biased, "added": added, "seed": seed}
    causal = causal if lengths[1] == lengths[2] else 0
    found = workloads_of(*multihead(*lengths, heads, (size, size), **options, scale=scale, unidirectional=causal))
    (text,) = [t for t in found if t.startswith("attention")]
    assert ("mask=" in text) == (padding != "none" or added)


def test_values_of_another_size_keep_the_pieces_of_their_attention() -> None:
    found = workloads_of(*multihead(1, 4, 4, 0, 2, (8, 16), biased=True))
    assert [text.split()[0] for text in found if not text.startswith("elementwise")] == ["matmul", "softmax", "matmul"]


def test_inputs_that_are_not_understood_are_named() -> None:
    model, _ = multihead(1, 4, 4, 0, 2, (8, 8))
    model.graph.input[1].type.tensor_type.shape.CopyFrom(
        helper.make_tensor_value_info("", 1, (1, 2, 4, 8)).type.tensor_type.shape
    )
    (left,) = import_model(model.SerializeToString()).graph.unsupported()
    assert left.reason == "com.microsoft.MultiHeadAttention with key of shape [1, 2, 4, 8]"


@pytest.mark.parametrize("segments", [False, True])
@pytest.mark.parametrize("positions", [False, True])
def test_embeddings_are_rows_of_tables_and_a_normalisation(segments: bool, positions: bool) -> None:
    rng, batch, tokens, width = np.random.default_rng(0), 2, 5, 8
    words = {name: rng.integers(0, high, (batch, tokens), np.int32) for name, high in (("ids", 9), ("segments", 2))}
    tables = {name: normal(rng, rows, width) for name, rows in (("words", 9), ("places", 7), ("kinds", 2))}
    inputs: dict[str, np.ndarray | None] = {
        "ids": words["ids"], "segments": words["segments"] if segments else None, "words": None, "places": None,
        "kinds" if segments else "": None, "gamma": None, "beta": None,
        "mask": np.repeat([[1, 1, 1, 0, 0]], batch, axis=0).astype(np.int32),
        "at": rng.integers(0, 7, (batch, tokens), np.int32) if positions else None,
    }  # fmt: skip
    constants = {**tables, "gamma": normal(rng, width), "beta": normal(rng, width)}
    outputs = {"y": (batch, tokens, width), "count": (batch,), "total": (batch, tokens, width)}
    model = build("EmbedLayerNormalization", inputs, outputs, constants, {"epsilon": 1e-6})
    model.graph.output[1].type.tensor_type.elem_type = TensorProto.INT32
    found = workloads_of(model, inputs)
    assert found[-1] == "layernorm rows=10 cols=8 act=f32 eps=1e-06"
