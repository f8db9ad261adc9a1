"""Workloads: text and value are inverse, spellings share a key, sizes are bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fettle.graph import codec
from fettle.graph.errors import InvalidWorkload
from fettle.graph.workload import Workload

EXTENTS = st.integers(1, 4096)
ACTIVATIONS = st.sampled_from(["f32", "bf16", "f16"])
GROUPED = st.builds(
    "{}:{}{}{}".format,
    st.integers(1, 8).map("u{}".format),
    st.sampled_from(["row", "32", "128", "48"]),
    st.sampled_from(["", ":zp"]),
    st.sampled_from(["", "/f32", "/f16"]),
)
SIGNS = st.builds("{}:{}".format, st.sampled_from(["tern", "bip1"]), st.sampled_from(["row", "64"]))


@st.composite
def matmuls(draw: st.DrawFn) -> dict[str, object]:
    fields: dict[str, object] = {name: draw(EXTENTS) for name in ("m", "n", "k")} | {"act": draw(ACTIVATIONS)}
    kind = draw(st.sampled_from(["rhs", "dense", "quantised"]))
    computes = ["f32", "bf16"]
    if kind == "rhs":
        fields["rhs"] = draw(ACTIVATIONS)
    elif kind == "dense":
        fields["weight"] = draw(ACTIVATIONS)
    else:
        fields["weight"] = draw(GROUPED | SIGNS)
        computes.append("i8")
    if kind != "quantised" and draw(st.booleans()):
        fields["batch"] = draw(EXTENTS)
    if draw(st.booleans()):
        fields["compute"] = draw(st.sampled_from(computes))
    if draw(st.booleans()):
        fields["out"] = draw(ACTIVATIONS)
    if fields["act"] == "f16" and "compute" not in fields and kind != "quantised":
        fields["compute"] = "f32"
    return fields


NORMS = st.fixed_dictionaries(
    {"rows": EXTENTS, "cols": EXTENTS, "act": ACTIVATIONS},
    optional={"eps": st.floats(0, 1, exclude_min=True, allow_subnormal=False)},
)
ELEMENTWISE = st.fixed_dictionaries(
    {
        "shape": st.lists(st.integers(1, 64), min_size=1, max_size=4).map(lambda shape: "x".join(map(str, shape))),
        "act": ACTIVATIONS,
        "expr": st.sampled_from(["silu(x0)*x1", "x0+x1", "(x0+x1)*0.5", "-x0/(x1-2)", "relu(((x0)))"]),
    }
)
SOFTMAX = st.fixed_dictionaries({"rows": EXTENTS, "cols": EXTENTS, "act": ACTIVATIONS})
WORKLOADS = st.one_of(
    matmuls().map(lambda fields: ("matmul", fields)),
    NORMS.map(lambda fields: ("rmsnorm", fields)),
    NORMS.map(lambda fields: ("layernorm", fields)),
    SOFTMAX.map(lambda fields: ("softmax", fields)),
    ELEMENTWISE.map(lambda fields: ("elementwise", fields)),
)


@given(WORKLOADS)
def test_text_is_parsed_back(drawn: tuple[str, dict[str, object]]) -> None:
    workload = Workload.of(drawn[0], **drawn[1])
    assert Workload.parse(str(workload)) == workload
    assert codec.loads(Workload, codec.dumps(workload)) == workload


@given(WORKLOADS, st.randoms())
def test_order_of_the_fields_does_not_matter(drawn: tuple[str, dict[str, object]], random: object) -> None:
    operator, fields = drawn
    shuffled = list(fields.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    text = " ".join([operator, *(f"{name}={value}" for name, value in shuffled)])
    assert Workload.parse(text).key == Workload.of(operator, **fields).key


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("matmul m=1 n=64 k=64 act=f32 weight=u4:32", "matmul  k=64 n=64 m=01 weight=u4:32/f16 act=f32 compute=i8"),
        ("matmul m=1 n=64 k=64 act=f32 rhs=f32", "matmul batch=1 m=1 n=64 k=64 act=f32 rhs=f32 compute=f32 out=f32"),
        ("rmsnorm rows=1 cols=8 act=f32", "rmsnorm rows=1 cols=8 act=f32 eps=0.00001"),
        ("elementwise shape=2x3 act=f32 expr=x0*x1", "elementwise shape=2x3 act=f32 expr=((x0))*(x1)"),
    ],
)
def test_spellings_of_one_workload_share_a_key(left: str, right: str) -> None:
    assert Workload.parse(left).key == Workload.parse(right).key


def test_defaults_are_not_printed() -> None:
    text = "matmul m=1 n=64 k=64 act=f32 weight=u4:32"
    assert str(Workload.parse(text + " compute=i8 out=f32 batch=1")) == text


def test_keys_are_stable_across_versions() -> None:
    """Changing this key empties every store: think twice."""
    key = Workload.parse("matmul m=1 n=4096 k=4096 act=f32 weight=u4:128").key
    assert key == codec.digest(
        (
            "fettle.workload",
            "matmul",
            (("m", "1"), ("n", "4096"), ("k", "4096"), ("act", "f32"), ("weight", "u4:128")),
        )
    )
    assert key == "32d772f083f3f9e5ebfb4e395a250523c4c728d43effe60c9a2f67c52c4a33eb"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("conv9 m=1", "unknown operator"),
        ("matmul m=1 n=1 k=1 act=f32", "exactly one of weight="),
        ("matmul m=1 n=1 k=1 act=f32 weight=f32 rhs=f32", "exactly one of weight="),
        ("matmul m=1 n=1 act=f32 weight=f32", "needs the field 'k'"),
        ("matmul m=1 m=2 n=1 k=1 act=f32 weight=f32", "twice"),
        ("matmul m=0 n=1 k=1 act=f32 weight=f32", "not between 1"),
        ("matmul m=-1 n=1 k=1 act=f32 weight=f32", "not a whole number"),
        ("matmul m=1 n=1 k=1 act=i8 weight=f32", "integer matmul"),
        ("matmul m=1 n=1 k=1 act=f32 weight=u4", "needs a group"),
        ("matmul m=1 n=1 k=1 act=f32 rhs=f32 compute=i8", "compute=i8 needs a quantised weight"),
        ("matmul batch=2 m=1 n=1 k=8 act=f32 weight=u4:8", "batched"),
        ("matmul m=1 n=1 k=1 act=f32 weight=f32 colour=red", "no field 'colour'"),
        ("matmul m=1 n=1 k=1 act=f32 weight", "malformed field"),
        ("matmul m=1099511627776 n=1 k=1 act=f32 rhs=f32", "not between 1"),
        ("matmul m=1000000000 n=1 k=1000000000 act=f32 rhs=f32", "bytes"),
        ("matmul m=" + "9" * 4000 + " n=1 k=1 act=f32 rhs=f32", "not between 1"),
        ("softmax rows=1 cols=1 act=f32 " + "x" * 5000, "at most 4096"),
        ("rmsnorm rows=1 cols=1 act=f32 eps=0", "positive"),
        ("rmsnorm rows=1 cols=1 act=f32 eps=nan", "positive"),
        ("elementwise shape=2x act=f32 expr=x0", "not a whole number"),
        ("elementwise shape=2 act=f32 expr=eval(x0)", "not allowed"),
    ],
)
def test_texts_that_describe_no_operator_are_refused(text: str, says: str) -> None:
    with pytest.raises(InvalidWorkload, match=says):
        Workload.parse(text)


def test_operands_of_a_quantised_product_are_as_declared() -> None:
    workload = Workload.parse("matmul m=2 n=64 k=96 act=f32 weight=u4:32:zp")
    x, weight = workload.operands
    assert (x.shape, x.constant) == ((2, 96), False)
    assert (weight.shape, weight.constant) == ((64, 96), True)
    assert workload.result.shape == (2, 64)
    assert workload.flops == 2 * 2 * 64 * 96
    codes, scales, zero_points = 64 * 96 // 2, 64 * 3 * 2, 64 * 3 // 2
    assert weight.nbytes == codes + scales + zero_points
    assert workload.nbytes == 4 * 2 * 96 + weight.nbytes + 4 * 2 * 64


def test_batched_products_have_a_leading_axis() -> None:
    workload = Workload.parse("matmul batch=3 m=2 n=5 k=7 act=f32 rhs=f32")
    assert [t.shape for t in workload.operands] == [(3, 2, 7), (3, 7, 5)]
    assert workload.result.shape == (3, 2, 5)
