"""Products of 8-bit codes: the reference against plain loops of whole numbers, and the text forms."""

from __future__ import annotations

import numpy as np
import pytest

from fettle.graph.data import operands, reference
from fettle.graph.errors import InvalidWorkload
from fettle.graph.workload import Workload

CONV = "conv2d n=1 c=2 h=4 w=5 oc=3 kh=3 kw=2 stride=1x2 pad=1"
MATMUL = "matmul m=3 n=4 k=5"


def sums(x: np.ndarray, weight: np.ndarray, zero: int) -> np.ndarray:
    """Of ``CONV``, in Python's whole numbers."""
    result = np.zeros((1, 3, 4, 3), object)
    for o, i, j in np.ndindex(3, 4, 3):
        for c, r, s in np.ndindex(2, 3, 2):
            row, column = i + r - 1, 2 * j + s - 1
            inside = 0 <= row < 4 and 0 <= column < 5
            code = int(x[0, c, row, column]) if inside else zero
            result[0, o, i, j] += (code - zero) * int(weight[o, c, r, s])
    return result


@pytest.mark.parametrize("act", ["u8", "i8"])
def test_sums_are_exact_and_the_image_is_surrounded_by_its_zero_point(act: str) -> None:
    workload = Workload.parse(f"{CONV} act={act} weight=i8 zero=true")
    x, weight, zero = (np.asarray(o) for o in operands(workload, 1))
    right = reference(workload, (x, weight, zero))
    assert (x.dtype, zero.shape, str(workload.result.format)) == (zero.dtype, (1,), "i32")
    assert (right.expected == sums(x, weight, int(zero[0]))).all()
    assert (right.tolerance == 0.5).all()


def test_results_are_rounded_halves_to_even_and_kept_between_bounds() -> None:
    workload = Workload.parse(f"{CONV} act=u8 weight=i8 zero=true epilogue=y*b0+b1 out=i8")
    x, weight, zero = (np.asarray(o) for o in operands(workload, 1)[:3])
    halves, offset = np.float32([0.5, 0.25, 1e-3]), np.float32([0.0, 3.0, -2.5])
    right = reference(workload, (x, weight, zero, halves, offset))
    exact = sums(x, weight, int(zero[0])) * halves.reshape(3, 1, 1).astype(object) + offset.reshape(3, 1, 1).astype(
        object
    )
    assert (right.expected == np.clip(np.rint(exact.astype(np.float64)), -128, 127)).all()
    assert set(np.unique(right.tolerance)) <= {0.5, 1.0}
    assert (right.tolerance[right.expected == 127] == 0.5).all()


def test_products_of_codes_are_those_of_their_differences_from_the_zero_point() -> None:
    workload = Workload.parse(f"{MATMUL} act=u8 weight=i8 zero=true out=f32 epilogue=y*b0")
    x, weight, zero, scale = (np.asarray(o) for o in operands(workload, 0))
    exact = (x.astype(int) - int(zero[0])) @ weight.astype(int)
    assert reference(workload, (x, weight, zero, scale)).expected == pytest.approx(exact * scale.astype(float))


def test_a_sum_that_is_off_by_one_is_noticed_after_scaling() -> None:
    workload = Workload.parse("conv2d n=1 c=16 h=40 w=40 oc=8 kh=3 kw=3 act=u8 weight=i8 epilogue=y*b0+b1 out=u8")
    x, weight, *rows = (np.asarray(o) for o in operands(workload, 0))
    right = reference(workload, (x, weight, *rows))
    plain = reference(Workload.parse("conv2d n=1 c=16 h=40 w=40 oc=8 kh=3 kw=3 act=u8 weight=i8"), (x, weight)).expected
    scale, offset = (row.reshape(-1, 1, 1).astype(np.float64) for row in rows)
    wrong = np.clip(np.rint((plain + 1) * scale + offset), 0, 255)
    assert (np.abs(wrong - right.expected) > right.tolerance).any()


def test_elementwise_results_may_be_codes() -> None:
    workload = Workload.parse("elementwise shape=1x5 act=f32 expr=x0*2 out=u8")
    right = reference(workload, (np.float32([[-1.0, 0.25, 0.75, 63.7, 200.0]]),))
    assert right.expected.tolist() == [[0.0, 0.0, 2.0, 127.0, 255.0]]
    sum_ = Workload.parse("elementwise shape=2x64 act=i8 expr=(x0-3)*0.5+x1")
    a, b = (np.asarray(o).astype(np.float64) for o in operands(sum_, 0))
    assert sum_.result.format == sum_["act"]
    assert (reference(sum_, operands(sum_, 0)).expected == np.clip(np.rint((a - 3) * 0.5 + b), -128, 127)).all()


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        (f"{CONV} act=u8 weight=i8 out=i32 zero=false", f"{CONV} act=u8 weight=i8"),
        (f"{CONV} act=i8 weight=i8 epilogue=y*b0 out=f32", f"{CONV} act=i8 weight=i8 epilogue=y*b0"),
        (f"{MATMUL} act=u8 weight=i8 compute=i8 out=i32", f"{MATMUL} act=u8 weight=i8"),
        ("elementwise shape=1x2 act=u8 expr=x0 out=u8", "elementwise shape=1x2 act=u8 expr=x0"),
    ],
)
def test_defaults_leave_the_text(text: str, canonical: str) -> None:
    assert str(Workload.parse(text)) == canonical


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"{CONV} act=u8 weight=f32", "multiplied by codes"),
        (f"{CONV} act=f32 weight=i8", "for products of codes"),
        (f"{CONV} act=f32 weight=f32 zero=true", "for products of codes"),
        (f"{CONV} act=f32 weight=f32 out=u8", "for products of codes"),
        (f"{CONV} act=u8 weight=i8 out=u8", "those of an epilogue"),
        (f"{CONV} act=u8 weight=i8 out=i32 epilogue=y*b0", "those of an epilogue"),
        (f"{CONV} act=u8 weight=i8 epilogue=y+x0", "reads rows only"),
        ("conv2d n=1 c=9999 h=3 w=3 oc=1 kh=3 kw=3 act=u8 weight=i8", "overflow"),
        (f"{MATMUL} act=u8 weight=f32", "an integer matmul"),
        (f"{MATMUL} act=f32 weight=f32 zero=true", "an integer matmul"),
        (f"{MATMUL} act=f32 weight=f32 out=i8", "an integer matmul"),
        (f"{MATMUL} act=u8 weight=i8 epilogue=y*b0", "those of an epilogue"),
        (f"{MATMUL} act=u8 weight=i8 out=bf16", "those of an epilogue"),
        ("elementwise shape=1x2 act=bf16 expr=x0 out=u8", "differ in f32, u8 and i8 only"),
    ],
)  # fmt: skip
def test_what_codes_are_not_for_is_rejected(text: str, says: str) -> None:
    with pytest.raises(InvalidWorkload, match=says):
        Workload.parse(text)
