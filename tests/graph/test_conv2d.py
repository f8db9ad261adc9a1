"""Convolutions and epilogues: the reference against a plain loop, and the text forms."""

from __future__ import annotations

import numpy as np
import pytest

from fettle.graph.data import operands, reference
from fettle.graph.epilogues import Epilogue
from fettle.graph.errors import InvalidWorkload
from fettle.graph.workload import Workload


def test_convolution_is_the_sum_over_taps_inside_the_image() -> None:
    workload = Workload.parse(
        "conv2d n=2 c=3 h=7 w=6 oc=4 kh=3 kw=2 stride=2 pad=1 dilation=2 act=f32 weight=f32 epilogue=relu(y+b0)-x0"
    )
    x, weight, bias, residual = (np.asarray(o, np.float64) for o in operands(workload, 3))
    right = reference(workload, operands(workload, 3))
    assert right.expected.shape == residual.shape == (2, 4, 3, 3)
    for n, o, i, j in np.ndindex(right.expected.shape):
        total = 0.0
        for c, r, s in np.ndindex(3, 3, 2):
            row, column = 2 * i + 2 * r - 1, 2 * j + 2 * s - 1
            if 0 <= row < 7 and 0 <= column < 6:
                total += x[n, c, row, column] * weight[o, c, r, s]
        assert right.expected[n, o, i, j] == pytest.approx(max(total + bias[o], 0.0) - residual[n, o, i, j])


def test_groups_are_convolutions_of_their_own_and_sides_may_differ() -> None:
    text = "conv2d n=2 c={} h=9 w=8 oc={} kh=3 kw=2 stride=2x1 pad=0x1x2x3 dilation=1x2 act=f32 weight=f32"
    whole = Workload.parse(text.format(6, 9) + " group=3")
    x, weight = (np.asarray(o) for o in operands(whole, 0))
    right = reference(whole, (x, weight))
    assert weight.shape == (9, 2, 3, 2)
    assert whole.flops == 2 * right.expected.size * 2 * 3 * 2
    for group in range(3):
        part = reference(
            Workload.parse(text.format(2, 3)), (x[:, 2 * group : 2 * group + 2], weight[3 * group : 3 * group + 3])
        )
        assert right.expected[:, 3 * group : 3 * group + 3] == pytest.approx(part.expected)
    n, o, i, j = 1, 4, 0, 0
    total = sum(
        float(x[n, 2 + c, 2 * i + r, j + 2 * s - 1]) * float(weight[o, c, r, s])
        for c, r, s in np.ndindex(2, 3, 2)
        if j + 2 * s >= 1
    )
    assert right.expected[n, o, i, j] == pytest.approx(total)


@pytest.mark.parametrize(
    ("given", "canonical"), [("1x1", "1"), ("0x1", "0x1"), ("2x1x2x1", "2x1"), ("0x0x1x1", "0x0x1x1")]
)
def test_equal_paddings_have_one_text(given: str, canonical: str) -> None:
    text = "conv2d n=1 c=3 h=9 w=9 oc=4 kh=3 kw=3 pad={} act=f32 weight=f32"
    assert str(Workload.parse(text.format(given))) == text.format(canonical)


@pytest.mark.parametrize(
    ("change", "says"),
    [("pad=1x2x3", "3 numbers"), ("stride=0", "extent 0"), ("stride=1x1x1", "3 numbers"), ("pad=-1", "whole number"),
     ("group=2", "do not make 2 groups"), ("dilation=1x", "whole number")],
)  # fmt: skip
def test_windows_that_mean_nothing_are_rejected(change: str, says: str) -> None:
    with pytest.raises(InvalidWorkload, match=says):
        Workload.parse(f"conv2d n=1 c=3 h=9 w=9 oc=4 kh=3 kw=3 {change} act=f32 weight=f32")


def test_a_lost_tap_is_noticed() -> None:
    workload = Workload.parse("conv2d n=1 c=64 h=8 w=8 oc=8 kh=3 kw=3 pad=1 act=f32 weight=f32")
    x, weight = (np.asarray(o) for o in operands(workload, 0))
    right = reference(workload, (x, weight))
    lost = weight.copy()
    lost[:, 63, 2, 2] = 0.0
    wrong = reference(workload, (x, lost)).expected
    assert (np.abs(wrong - right.expected) > right.tolerance).any()


def test_defaults_of_a_convolution_leave_its_text() -> None:
    text = "conv2d n=1 c=3 h=9 w=9 oc=4 kh=3 kw=3 act=f32 weight=f32"
    assert str(Workload.parse(f"{text} stride=1 pad=0 dilation=1")) == text


def test_filters_larger_than_the_padded_image_are_rejected() -> None:
    with pytest.raises(InvalidWorkload, match="does not fit"):
        Workload.parse("conv2d n=1 c=1 h=2 w=9 oc=1 kh=3 kw=3 act=f32 weight=f32")


def test_epilogues_are_canonical_and_say_what_they_read() -> None:
    epilogue = Epilogue.parse("relu( y+b0 ) + x0*x1")
    assert str(epilogue) == "relu(y+b0)+x0*x1"
    assert (epilogue.rows, epilogue.operands) == (1, 2)
    assert str(epilogue.expression) == "relu(x0+x1)+x2*x3"


@pytest.mark.parametrize("text", ["relu(x0)", "y+b1", "y+x1", "y+z0", "y+", "y+b01", "import(y)", "y[0]"])
def test_other_texts_are_no_epilogues(text: str) -> None:
    with pytest.raises(InvalidWorkload):
        Epilogue.parse(text)


def test_workloads_without_an_epilogue_keep_their_text() -> None:
    text = "matmul m=2 n=3 k=4 act=f32 weight=f32"
    assert str(Workload.parse(text)) == text


def test_rows_of_an_epilogue_are_constants_and_its_operands_have_the_shape_of_the_result() -> None:
    workload = Workload.parse("matmul batch=2 m=2 n=3 k=4 act=bf16 rhs=bf16 epilogue=y*b0+x0")
    extra = {t.name: t for t in workload.operands[2:]}
    assert extra["b0"].constant
    assert extra["b0"].shape == (3,)
    assert extra["x0"].shape == workload.result.shape == (2, 2, 3)
    assert extra["x0"].format == workload.result.format


def test_epilogue_of_a_product_is_evaluated_in_float64_and_widens_its_bound() -> None:
    plain = Workload.parse("matmul m=2 n=3 k=64 act=f32 weight=f32")
    fused = Workload.parse(f"{plain} epilogue=relu(y+b0)*x0")
    x, w, b, r = (np.asarray(o, np.float64) for o in operands(fused, 0))
    right = reference(fused, operands(fused, 0))
    assert right.expected == pytest.approx(np.maximum(x @ w + b, 0.0) * r)
    assert (right.tolerance >= reference(plain, (x, w)).tolerance * np.abs(r) * 0.99).all()


def test_the_error_of_a_product_with_low_bit_weights_goes_through_its_epilogue() -> None:
    plain = Workload.parse("matmul m=2 n=8 k=32 act=f32 weight=u4:32 out=f32")
    fused = Workload.parse(f"{plain} epilogue=4*relu(y+b0)-x0")
    x, w, b, r = operands(fused, 0)
    bare, right = reference(plain, (x, w)), reference(fused, (x, w, b, r))
    assert right.expected == pytest.approx(4.0 * np.maximum(bare.expected + np.asarray(b), 0.0) - np.asarray(r))
    off = 4.0 * np.maximum(bare.expected + 0.9 * bare.tolerance + np.asarray(b), 0.0) - np.asarray(r)
    assert (np.abs(off - right.expected) <= right.tolerance).all()
