"""Attention as PyTorch programs write it by hand: one workload, and the results stay."""

from __future__ import annotations

import numpy as np
import pytest

from tests.face.test_transformers import build, workloads_of

N, D = 6, 8
CAUSAL = np.tri(N, dtype=np.bool_)
ARRAYS = {
    "c": np.float32(D**-0.5), "seen": CAUSAL, "hidden": np.float32(-np.inf), "least": np.finfo(np.float32).min,
    "later": ~CAUSAL, "bias": np.where(CAUSAL, np.float32(0.0), np.float32(-np.inf))[None].repeat(4, axis=0),
}  # fmt: skip
RNG = np.random.default_rng(0)


def inputs(*shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {name: RNG.standard_normal(shape, np.float32) for name, shape in zip("qkv", shapes, strict=False)}


def found(body: str, *shapes: tuple[int, ...], result: tuple[int, ...] | None = None) -> list[str]:
    extents = (*shapes, shapes[0] if result is None else result)
    kinds = [f"float[{','.join(map(str, shape))}]" if shape else "float" for shape in extents]
    heading = ", ".join(f"{kind} {name}" for kind, name in zip(kinds[:-1], "qkv", strict=False))
    model = build(f"g ({heading}) => ({kinds[-1]} y) {{ {body} }}", ARRAYS, 23)
    return workloads_of(model, inputs(*shapes))


WHOLE = (2, 2, N, D)
SPREAD = "kt = Transpose <perm = [0, 1, 3, 2]> (k) p = MatMul (q, kt) s = Mul (p, c)"


@pytest.mark.parametrize("choice", ["Where (seen, s, hidden)", "Where (later, hidden, s)", "Where (later, least, s)"])
def test_logits_that_are_replaced_are_a_mask(choice: str) -> None:
    texts = found(f"{SPREAD} w = {choice} a = Softmax (w) y = MatMul (a, v)", *[WHOLE] * 3)
    assert texts == ["attention batch=2 heads=2 q=6 kv=6 dim=8 act=f32 causal=true"]


def test_a_mask_that_changes_is_computed_and_added() -> None:
    body = (
        f"g (float[2,2,6,8] q, float[2,2,6,8] k, float[2,2,6,8] v, bool[2,1,1,6] m) => (float[2,2,6,8] y) {{ {SPREAD}"
    )
    model = build(f"{body} w = Where (m, s, hidden) a = Softmax (w) y = MatMul (a, v) }}", ARRAYS, 23)
    masked = np.ones((2, 1, 1, 6), np.bool_)
    masked[1, ..., 3:] = False
    texts = workloads_of(model, {**inputs(*[WHOLE] * 3), "m": masked})
    assert texts == ["attention batch=2 heads=2 q=6 kv=6 dim=8 act=f32 mask=2x1x1x6"]


@pytest.mark.parametrize("choice", ["Where (seen, s, c)", "Where (seen, hidden, hidden)", "Where (seen, c, s)"])
def test_other_choices_keep_their_pieces(choice: str) -> None:
    texts = found(f"{SPREAD} w = {choice} e = Exp (s) f = Max (w, e) a = Softmax (f) y = MatMul (a, v)", *[WHOLE] * 3)
    assert not any(text.startswith("attention") for text in texts)
    if "hidden, hidden" not in choice:
        texts = found(f"{SPREAD} w = {choice} a = Softmax (w) y = MatMul (a, v)", *[WHOLE] * 3)
        assert not any(text.startswith("attention") for text in texts)


def test_batch_and_heads_may_be_one_axis() -> None:
    three = [(4, N, D)] * 3
    pieces = "kt = Transpose <perm = [0, 2, 1]> (k) p = MatMul (q, kt) s = Mul (p, c)"
    texts = found(f"{pieces} a = Softmax (s) y = MatMul (a, v)", *three)
    assert texts == ["attention heads=4 q=6 kv=6 dim=8 act=f32"]
    texts = found(f"{pieces} b = Add (bias, s) a = Softmax (b) y = MatMul (a, v)", *three)
    assert texts == ["attention heads=4 q=6 kv=6 dim=8 act=f32 mask=1x4x6x6"]


def test_one_head_of_keys_and_values_for_all() -> None:
    texts = found(f"{SPREAD} a = Softmax (s) y = MatMul (a, v)", WHOLE, (2, 1, N, D), (2, 1, N, D))
    assert texts == ["attention batch=2 heads=2 kv_heads=1 q=6 kv=6 dim=8 act=f32"]


def test_einsum_is_attention_and_products() -> None:
    body = """p = Einsum <equation = "bqhd,bkhd->bhqk"> (q, k) s = Mul (p, c) a = Softmax (s)
        y = Einsum <equation = "bhqk,bkhd->bqhd"> (a, v)"""
    texts = found(body, *[(2, N, 3, D)] * 3)
    assert texts == ["attention batch=2 heads=3 q=6 kv=6 dim=8 act=f32"]


@pytest.mark.parametrize(
    ("equation", "x", "y", "result", "product"),
    [
        ("ij,jk->ik", (4, 6), (6, 8), (4, 8), "matmul m=4 n=8 k=6"),
        ("ij,kj->ki", (4, 6), (8, 6), (8, 4), "matmul m=4 n=8 k=6"),
        ("bchw,bcij->bhwij", (2, 3, 4, 5), (2, 3, 2, 2), (2, 4, 5, 2, 2), "matmul batch=2 m=20 n=4 k=3"),
        ("td,tkdf->tkf", (3, 4), (3, 2, 4, 5), (3, 2, 5), "matmul batch=3 m=1 n=10 k=4"),
        ("abc,cb->a", (3, 4, 5), (5, 4), (3,), "matmul m=3 n=1 k=20"),
    ],
)
def test_einsum_of_two_tensors_is_a_product(
    equation: str, x: tuple[int, ...], y: tuple[int, ...], result: tuple[int, ...], product: str
) -> None:
    (text,) = found(f'y = Einsum <equation = "{equation}"> (q, k)', x, y, result=result)
    assert text.startswith(f"{product} act=f32")


@pytest.mark.parametrize(
    ("equation", "x", "y", "result"),
    [
        ("ii,ij->j", (4, 4), (4, 5), (5,)),
        ("i,j->ij", (4,), (5,), (4, 5)),
        ("ij,jk->", (4, 6), (6, 8), ()),
        ("...j,jk->...k", (4, 6), (6, 8), (4, 8)),
        ("ij,k->k", (4, 6), (8,), (8,)),
    ],
)
def test_other_einsums_stay(equation: str, x: tuple[int, ...], y: tuple[int, ...], result: tuple[int, ...]) -> None:
    assert found(f'y = Einsum <equation = "{equation}"> (q, k)', x, y, result=result) == []


@pytest.mark.parametrize(("queries", "keys"), [(4, 6), (6, 4)])
def test_causal_masks_begin_at_the_first_key(queries: int, keys: int) -> None:
    shapes = [(2, 2, queries, D), (2, 2, keys, D), (2, 2, keys, D)]
    (text,) = found("y = Attention <is_causal = 1> (q, k, v)", *shapes)
    assert text == f"attention batch=2 heads=2 q={queries} kv={keys} dim=8 act=f32 mask=1x1x{queries}x{keys}"
