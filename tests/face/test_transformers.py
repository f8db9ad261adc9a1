"""Attention and normalisations in the ways exporters write them: one workload each, and the results stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, numpy_helper, parser

from fettle.differences import compare
from fettle.graph.onnx.reference import evaluate
from fettle.graph.onnx_import import import_model
from fettle.runtime import GraphRuntime
from tests.face.test_runtime import NumpyKernel


def build(body: str, arrays: dict[str, Any], opset: int) -> ModelProto:
    proto = parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]> {body}')
    proto.graph.initializer.extend(numpy_helper.from_array(np.asarray(a), name) for name, a in arrays.items())
    return proto


def workloads_of(model: ModelProto, inputs: dict[str, np.ndarray]) -> list[str]:
    """Workloads, after the runtime computed with them what the reference evaluator computes of the model as it is."""
    imported = import_model(model.SerializeToString())
    runtime = GraphRuntime(imported, NumpyKernel)
    for difference in compare(runtime(inputs), evaluate(model, inputs)).values():
        assert difference.nrmse < 1e-6
    return [str(node.workload) for node in imported.graph.nodes if node.workload is not None]


KEYS = {
    "at once": "kt = Transpose <perm = [0, 2, 3, 1]> (k)",
    "heads first": "kh = Transpose <perm = [0, 2, 1, 3]> (k)  kt = Transpose <perm = [0, 1, 3, 2]> (kh)",
    "as matrices": "kh = Transpose <perm = [0, 2, 1, 3]> (k)  kf = Reshape (kh, flat)"
    "  kg = Transpose <perm = [0, 2, 1]> (kf)  kt = Reshape (kg, turned)",
}
LOGITS = {
    "factors before": "qs = Mul (qh, r)  ks = Mul (r, kt)  l = MatMul (qs, ks)",
    "factor after": "p = MatMul (qh, kt)  l = Mul (p, c)",
    "quotient after": "p = MatMul (qh, kt)  l = Div (p, d)",
    "another factor": "p = MatMul (qh, kt)  l = Mul (p, r)",
}
MASKS = {
    "none": ("a = Identity (l)", ""),
    "causal": ("a = Add (l, later)", " causal=true"),
    "chosen": ("m = Where (seen, zero, hidden)  a = Add (l, m)", " mask=1x1x{n}x{n}"),
    "of batches": ("m = Where (rows, zero, hidden)  a = Add (m, l)", " mask={b}x1x1x{n}"),
}
GUARDS = {
    "plain": "s = Softmax <axis = -1> (a)",
    "guarded": "t = Softmax <axis = -1> (a)  bad = IsNaN (t)  s = Where (bad, zero, t)",
}


def attention(
    b: int, n: int, h: int, d: int, keys: str, logits: str, mask: str, guard: str
) -> tuple[str, dict[str, Any]]:
    tensors = ", ".join(f"float[{b},{n},{h},{d}] {name}" for name in "qkv")
    body = f"""g ({tensors}, bool[{n},{n}] seen, bool[{b},1,1,{n}] rows) => (float[{b},{n},{h},{d}] y) {{
        qh = Transpose <perm = [0, 2, 1, 3]> (q)  vh = Transpose <perm = [0, 2, 1, 3]> (v)
        {KEYS[keys]} {LOGITS[logits]} {MASKS[mask][0]} {GUARDS[guard]}
        o = MatMul (s, vh)  y = Transpose <perm = [0, 2, 1, 3]> (o)
    }}"""
    f32 = np.float32
    arrays = {
        "r": f32(d**-0.25), "c": f32(d**-0.5), "d": f32(d**0.5), "zero": f32(0.0), "hidden": f32(-np.inf),
        "later": np.where(np.tri(n), f32(0.0), f32(-3.4e38)), "flat": [b * h, n, d], "turned": [b, h, d, n],
    }  # fmt: skip
    return body, arrays


def inputs_of(b: int, n: int, h: int, d: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    made: dict[str, np.ndarray] = {name: rng.standard_normal((b, n, h, d), np.float32) for name in "qkv"}
    seen, rows = rng.random((n, n)) < 0.5, rng.random((b, 1, 1, n)) < 0.5
    seen[:, 0] = rows[..., 0] = True  # softmax of nothing is NaN in ONNX
    return made | {"seen": seen, "rows": rows}


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 2), st.integers(2, 9), st.integers(1, 3), st.sampled_from([8, 12])),
    st.sampled_from(sorted(KEYS)),
    st.sampled_from(sorted(LOGITS)),
    st.sampled_from(sorted(MASKS)),
    st.sampled_from(sorted(GUARDS)),
    st.integers(0, 2**32 - 1),
)
def test_pieces_of_attention_are_one_workload(
    extents: tuple[int, int, int, int], keys: str, logits: str, mask: str, guard: str, seed: int
) -> None:
    b, n, h, d = extents
    model = build(*attention(b, n, h, d, keys, logits, mask, guard), 17)
    found = workloads_of(model, inputs_of(*extents, np.random.default_rng(seed)))
    fields = {f"heads={h}", f"q={n}", f"kv={n}", f"dim={d}", *MASKS[mask][1].format(b=b, n=n).split()}
    fields |= {f"scale={float(np.float32(d**-0.25))}"} if logits == "another factor" else set()
    (text,) = [t for t in found if t.startswith("attention")]
    assert fields <= set(text.split())
    assert not any(t.startswith(("softmax", "matmul")) for t in found)


GROUPS = "{x}u = Unsqueeze ({x}, two)  {x}e = Expand ({x}u, wide)  {x}h = Reshape ({x}e, whole)"


@pytest.mark.parametrize("mask", ["", ", seen"])
def test_heads_that_share_keys_get_no_copies(mask: str) -> None:
    body = f"""g (float[2,6,5,8] q, float[2,2,7,8] k, float[2,2,7,8] v, bool[5,7] seen) => (float[2,6,5,8] y) {{
        {GROUPS.format(x="k")} {GROUPS.format(x="v")}
        y = Attention (q, kh, vh{mask})
    }}"""
    arrays = {"two": [2], "wide": [2, 2, 3, 7, 8], "whole": [2, 6, 7, 8]}
    rng = np.random.default_rng(0)
    shapes = {"q": (2, 6, 5, 8), "k": (2, 2, 7, 8), "v": (2, 2, 7, 8)}
    inputs: dict[str, np.ndarray] = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    inputs["seen"] = rng.random((5, 7)) < 0.5
    inputs["seen"][:, 3] = True
    (text,) = workloads_of(build(body, arrays, 23), inputs)
    expected = "attention batch=2 heads=6 kv_heads=2 q=5 kv=7 dim=8 act=f32"
    assert text == (expected + " mask=1x1x5x7" if mask else expected)


WHOLE = "o = MatMul (s, vh)"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("<axis = -1>", "<axis = 2>"),
        (WHOLE, f"z = Exp (s)  zy = MatMul (z, vh)  {WHOLE}  _ = Add (zy, o)"),  # others read the probabilities
        ("Add (l, later)", "Add (l, column)"),
        ("l = Mul (p, c) a = Add (l, later)", "l = Add (p, bias) a = Mul (l, c)"),  # as Falcon has it
    ],
)
def test_what_only_looks_like_attention_keeps_its_pieces(before: str, after: str) -> None:
    body, arrays = attention(1, 8, 2, 8, "at once", "factor after", "causal", "plain")
    assert before in body
    added = {"column": np.ones((8, 1), np.float32), "bias": np.eye(8, dtype=np.float32)}
    model = build(body.replace(before, after), arrays | added, 17)
    found = workloads_of(model, inputs_of(1, 8, 2, 8, np.random.default_rng(0)))
    assert not any(text.startswith("attention") for text in found)


ROOT = "m = ReduceMean <axes = [-1]> (p)  a = Add (m, eps)  r = Sqrt (a)"
NORMS = {
    "rms, by a reciprocal": f"p = Pow (x, two) {ROOT} i = Reciprocal (r)  n = Mul (x, i)  y = Mul (w, n)",
    "rms, by one over": f"p = Mul (x, x) {ROOT} i = Div (one, r)  n = Mul (x, i)  y = Mul (n, w)",
    "rms, by a quotient": f"p = Pow (x, two) {ROOT} n = Div (x, r)  y = Mul (w, n)",
    "layer": f"c = ReduceMean <axes = [-1]> (x)  d = Sub (x, c)  p = Pow (d, two) {ROOT} n = Div (d, r)"
    "  s = Mul (n, w)  y = Add (s, b)",
}


def norm(body: str, shape: tuple[int, ...]) -> tuple[ModelProto, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    kind = f"float[{','.join(map(str, shape))}]"
    f32 = np.float32
    arrays = {"two": f32(2.0), "four": f32(4.0), "one": f32(1.0), "eps": f32(1e-3)}
    arrays |= {name: rng.standard_normal(shape[-1:], f32) for name in "wb"}
    model = build(f"g ({kind} x) => ({kind} y) {{ {body} }}", arrays, 17)
    return model, {"x": rng.standard_normal(shape, f32)}


@pytest.mark.parametrize("written", NORMS)
@pytest.mark.parametrize("shape", [(2, 3, 8), (5, 40), (1, 7)])
def test_pieces_of_a_normalisation_are_one_workload(written: str, shape: tuple[int, ...]) -> None:
    operator = "layernorm" if written == "layer" else "rmsnorm"
    rows = np.prod(shape[:-1])
    assert workloads_of(*norm(NORMS[written], shape)) == [f"{operator} rows={rows} cols={shape[-1]} act=f32 eps=0.001"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Mul (w, n)", "Mul (n, n)"),
        ("y = Mul (w, n)", "s = Mul (w, n)  y = Add (s, n)"),  # the quotient is needed, too
        ("axes = [-1]", "axes = [0]"),
        ("Pow (x, two)", "Pow (x, four)"),
        ("Div (x, r)", "Div (p, r)"),
    ],
)
def test_what_only_looks_like_a_normalisation_keeps_its_pieces(before: str, after: str) -> None:
    body = NORMS["rms, by a quotient"]
    assert before in body
    found = workloads_of(*norm(body.replace(before, after), (4, 8)))
    assert not any(text.startswith(("rmsnorm", "layernorm")) for text in found)


@pytest.mark.parametrize("operator", ["MatMul", "Attention"])
@pytest.mark.parametrize("kept", [False, True])
def test_a_factor_before_heads_are_split_is_the_scale(operator: str, kept: bool) -> None:
    whole = {
        "MatMul": "kt = Transpose <perm = [0, 1, 3, 2]> (kh)  l = MatMul (qh, kt)  s = Softmax (l)  o = MatMul (s, vh)",
        "Attention": "o = Attention <scale = 1.0> (qh, kh, vh)",
    }[operator]
    body = f"""g (float[2,5,16] q, float[2,5,16] k, float[2,5,16] v) => (float[2,2,5,8] o, float[2,5,16] other) {{
        qs = Mul (half, q)  qr = Reshape (qs, split)  qh = Transpose <perm = [0, 2, 1, 3]> (qr)
        ks = Div (k, four)  kr = Reshape (ks, split)  kh = Transpose <perm = [0, 2, 1, 3]> (kr)
        vr = Reshape (v, split)  vh = Transpose <perm = [0, 2, 1, 3]> (vr)
        {whole}
        other = Exp ({"qs" if kept else "v"})
    }}"""
    arrays = {"half": np.float32(0.5), "four": np.array([[4.0]], np.float32), "split": [2, 5, 2, 8]}
    rng = np.random.default_rng(0)
    inputs: dict[str, np.ndarray] = {name: rng.standard_normal((2, 5, 16), np.float32) for name in "qkv"}
    found = workloads_of(build(body, arrays, 23), inputs)
    scale = 0.25 if kept else 0.125  # the factor of queries that others read stays where it is
    assert [text for text in found if text.startswith("attention")] == [
        f"attention batch=2 heads=2 q=5 kv=5 dim=8 act=f32 scale={scale}"
    ]
    assert sum(text.startswith("elementwise") for text in found) == 1 + kept


def test_the_example_of_a_decoder_layer_scales_in_its_attention() -> None:
    path = Path(__file__).parents[2] / "examples" / "decoder_layer.onnx"
    found = [str(node.workload) for node in import_model(path).graph.nodes if node.workload is not None]
    assert [text for text in found if text.startswith("attention")] == ["attention heads=4 q=8 kv=128 dim=64 act=f32"]
    assert not any("0.125" in text for text in found)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("past", [0, 3])
@pytest.mark.parametrize("seen", ["all", "earlier", "chosen"])
@pytest.mark.parametrize("new", [1, 4])
def test_attention_with_flat_heads_or_a_past_is_one_workload(flat: bool, past: int, seen: str, new: int) -> None:
    q, kv = ((2, new, 32), (2, new, 16)) if flat else ((2, 4, new, 8), (2, 2, new, 8))
    shapes = {"q": q, "k": kv, "v": kv, **({"pk": (2, 2, past, 8), "pv": (2, 2, past, 8)} if past else {})}
    total = past + new
    if seen == "chosen":
        shapes["m"] = (new, total)
    declared = ", ".join(f"float{list(shape)} {name}" for name, shape in shapes.items())
    results = f"float{list(q)} y, float[2,2,{total},8] a, float[2,2,{total},8] b"
    heads = ", q_num_heads = 4, kv_num_heads = 2" if flat else ""
    body = f"""g ({declared}) => ({results}) {{
        y, a, b = Attention <is_causal = {int(seen == "earlier")}, scale = 0.5{heads}>
            (q, k, v{", m" if "m" in shapes else ", "}{", pk, pv" if past else ""})
    }}"""
    rng = np.random.default_rng(0)
    inputs: dict[str, np.ndarray] = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    found = workloads_of(build(body, {}, 24), inputs)
    causal = " causal=true" if seen == "earlier" and (new > 1 or not past) else ""
    mask = f" mask=1x1x{new}x{total}" if seen == "chosen" else ""
    assert found == [f"attention batch=2 heads=4 kv_heads=2 q={new} kv={total} dim=8 act=f32{causal} scale=0.5{mask}"]
