"""Every inner loop on every format this machine can run, against the reference and its tolerance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fettle.backends.api import Candidate, DeviceText
from fettle.backends.cpu import CpuBackend
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.gemv import spaces
from fettle.backends.spaces import enumerate_space
from fettle.graph import data
from fettle.graph.quantized import QuantizedWeight
from fettle.graph.workload import Workload

FORMATS = ("u1", "u2", "u3", "u4", "u5", "u6", "u7", "u8", "tern", "bip1", "bcq2", "bcq3")
RUNNABLE = [
    pair for pair, sets in spaces.ISAS.items() if any(needed <= cpu.features(cpu.default_device()) for needed in sets)
]
INT8 = [pair for pair in RUNNABLE if pair[0] != "dequantise"]
ANY_WEIGHTS = [pair for pair in INT8 if pair[0] != "triplets"]
LEVELS = [level for level, needed in cpu.LEVELS.items() if needed <= cpu.Machine.detect().features]


def skip_if_missing(algorithm: str, isa: str, kind: str) -> None:
    if algorithm == "triplets" and kind != "tern":
        pytest.skip("only ternary weights have digits")
    if (algorithm, isa) in spaces.NARROW_SUMS and kind == "u8":
        pytest.skip("16-bit sums do not hold 8 planes: not in the space")
    if algorithm == "mirror" and kind in ("u4", "u6", "u7", "u8"):
        pytest.skip("16-bit sums of half tables are for three planes: more are not in the space")


CASES = [
    (algorithm, isa, kind)
    for algorithm, isa in INT8
    for kind in ("u1", "u2", "u3", "u4", "u6", "u8", "tern", "bip1", "bcq3")
    if (algorithm, kind) not in (("integer", "u3"), ("integer", "u6")) or isa == "avx2"
    if algorithm != "triplets" or kind == "tern"
]
"""With VNNI the code of u3 and u6 is that of u4 and u8, in whose fields they are stored."""


@pytest.mark.parametrize(("algorithm", "isa", "kind"), CASES)
def test_every_format_is_within_tolerance(build: Any, algorithm: str, isa: str, kind: str) -> None:
    skip_if_missing(algorithm, isa, kind)
    built = build(f"matmul m=1 n=50 k=150 act=f32 weight={kind}:64", algorithm=algorithm, isa=isa, tile=64)
    assert built.error() <= 1.0


@pytest.mark.parametrize("kind", ["u3", "u8", "bip1", "bcq2"])
@pytest.mark.parametrize("isa", [isa for algorithm, isa in RUNNABLE if algorithm == "dequantise"])
def test_unrounded_activations_meet_the_tighter_tolerance(build: Any, isa: str, kind: str) -> None:
    assert build(f"matmul m=3 n=50 k=150 act=f32 weight={kind}:64 compute=f32", isa=isa).error() <= 1.0


@pytest.mark.parametrize(("kind", "k"), [("u8:8:zp/f32", 1), ("tern:8", 4), ("bcq3:8/f32", 2)])
def test_products_whose_parts_cancel_are_within_the_tighter_tolerance(build: Any, kind: str, k: int) -> None:
    """Of 500 weights of so few codes some are zero, where sums of codes and of activations are not."""
    assert build(f"matmul m=2 n=500 k={k} act=f32 weight={kind} compute=f32").error() <= 1.0


@given(choose=st.data())
@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
def test_any_schedule_of_any_shape_is_right(backend: CpuBackend, load: Any, choose: st.DataObject) -> None:
    kind = choose.draw(st.sampled_from(FORMATS))
    group = choose.draw(st.sampled_from(["8", "12", "20", "32", "64", "128", "row"]))
    suffix = choose.draw(
        st.sampled_from(["", "/f32"] if kind in ("tern", "bip1", "bcq2", "bcq3") else ["", ":zp", ":zp/f32"])
    )
    act, out = (
        choose.draw(st.sampled_from(["f32", "f16", "bf16"])),
        choose.draw(st.sampled_from(["f32", "f16", "bf16"])),
    )
    m, n, k = (choose.draw(st.integers(1, top)) for top in (11, 150, 300))
    compute = choose.draw(st.sampled_from(["i8", "i8", "i8", "f32", "bf16"]))
    text = f"matmul m={m} n={n} k={k} act={act} weight={kind}:{group}{suffix} compute={compute} out={out}"
    workload = Workload.parse(text)
    device = backend.device(DeviceText.parse(f"cpu,isa={choose.draw(st.sampled_from(LEVELS))}"))
    points = enumerate_space(backend.space(workload, device))
    schedule = points[choose.draw(st.integers(0, len(points) - 1))]
    assert load(Candidate(workload, device, schedule)).error() <= 1.0


@pytest.mark.parametrize("kind", ["u4", "u7", "u8"])
@pytest.mark.parametrize(("algorithm", "isa"), ANY_WEIGHTS)
def test_sums_of_the_largest_codes_and_activations_do_not_saturate(
    build: Any, algorithm: str, isa: str, kind: str
) -> None:
    skip_if_missing(algorithm, isa, kind)
    text = f"matmul m=1 n=32 k=512 act=f32 weight={kind}:row/f32"
    built = build(text, algorithm=algorithm, isa=isa, tile=64, unroll=8)
    weight_format = built.workload["weight"]
    top = weight_format.levels - 1
    weight = QuantizedWeight(weight_format, np.full((32, 512), top, np.uint8), np.ones((32, 1), np.float32))
    for sign in (1, -1):
        result = built([np.full((1, 512), sign, np.float32), weight])
        np.testing.assert_allclose(result, sign * 512 * (top - weight_format.zero_point), rtol=1e-5)


@pytest.mark.parametrize("weight", ["bip1:2056/f32", "u3:288/f32", "tern:1285/f32"])
@pytest.mark.parametrize("device", ["cpu", "cpu,isa=avx512vnni"])
def test_half_tables_hold_the_largest_sums_of_the_largest_groups(build: Any, weight: str, device: str) -> None:
    """257 tables of one plane, 36 of three; with and without the instruction that spreads signs."""
    if ("mirror", "avx512") not in RUNNABLE:
        pytest.skip("this machine has no half tables")
    k = int(weight.split(":")[1].removesuffix("/f32"))
    built = build(f"matmul m=1 n=64 k={k} act=f32 weight={weight}", device, algorithm="mirror", isa="avx512", tile=64)
    form = built.workload["weight"]
    codes = np.repeat(np.array([[0], [form.levels - 1]], np.uint8), 32, axis=0) + np.zeros((1, k), np.uint8)
    values = (codes.astype(np.float64) - form.zero_point) * form.step
    for sign in (1, -1):
        result = built([np.full((1, k), sign, np.float32), QuantizedWeight(form, codes, np.ones((64, 1), np.float32))])
        np.testing.assert_allclose(result[0], sign * values.sum(axis=1), rtol=5e-3)


@pytest.mark.parametrize(("algorithm", "isa"), ANY_WEIGHTS)
def test_zero_activations_give_zero_and_tiny_ones_no_nan(build: Any, algorithm: str, isa: str) -> None:
    built = build("matmul m=1 n=32 k=64 act=f32 weight=u4:32:zp", algorithm=algorithm, isa=isa, tile=64)
    _, weight = data.operands(built.workload, 0)
    assert (built([np.zeros((1, 64), np.float32), weight]) == 0).all()
    for tiny in (1e-20, 1e-38, 1e-45):
        assert np.abs(built([np.full((1, 64), tiny, np.float32), weight])).max() <= 100 * tiny + 1e-30


@pytest.mark.parametrize(("algorithm", "isa"), ANY_WEIGHTS)
def test_rows_longer_than_the_largest_exact_group_are_cut(build: Any, algorithm: str, isa: str) -> None:
    assert build("matmul m=1 n=32 k=70000 act=f32 weight=u2:row", algorithm=algorithm, isa=isa, tile=64).error() <= 1.0


TRIPLETS = [isa for algorithm, isa in RUNNABLE if algorithm == "triplets"]


@pytest.mark.parametrize("isa", TRIPLETS)
def test_look_ups_of_three_digits_are_right_in_groups_that_leave_some_over(build: Any, isa: str) -> None:
    device = "cpu,isa=portable" if isa == "portable" else "cpu"
    for group, rows in ((20, 2), (128, 1)):  # 7 and 43, of eight a step
        text = f"matmul m={rows} n=130 k=390 act=f32 weight=tern:{group}"
        assert build(text, device, algorithm="triplets", isa=isa, tile=128, blocks=2).error() <= 1.0


@pytest.mark.parametrize("isa", TRIPLETS)
def test_zeros_in_look_ups_of_three_digits_cancel(build: Any, isa: str) -> None:
    """No entry is exactly zero; entries of weights that are take both signs in turn."""
    built = build(
        "matmul m=1 n=64 k=768 act=f32 weight=tern:768/f32",
        "cpu,isa=portable" if isa == "portable" else "cpu",
        algorithm="triplets",
        isa=isa,
        tile=64,
    )
    x, weight = data.operands(built.workload, 0)
    zeros = QuantizedWeight(weight.format, np.ones_like(weight.codes), np.ones_like(weight.scales))
    assert np.abs(built([x, zeros])).max() < 1e-3


@pytest.mark.parametrize(("algorithm", "isa"), ANY_WEIGHTS[:1] + ANY_WEIGHTS[-1:])
def test_threads_agree_with_one_thread(build: Any, algorithm: str, isa: str) -> None:
    if cpu.threads(cpu.default_device()) < 2:
        pytest.skip("one core")
    text = "matmul m=3 n=200 k=128 act=f32 weight=u4:32"
    one = build(text, algorithm=algorithm, isa=isa, tile=64)
    operands = data.operands(one.workload, 0)
    for preparation, split in ("private", "contiguous"), ("shared", "contiguous"), ("private", "interleaved"):
        changes = {"threads": 2, "preparation": preparation, "split": split}  # four tiles; of one only a part is used
        two = build(text, algorithm=algorithm, isa=isa, tile=64, **changes)
        np.testing.assert_array_equal(one(operands), two(operands))


def test_tiles_that_threads_do_not_divide_are_all_computed_when_interleaved(build: Any) -> None:
    if cpu.threads(cpu.default_device()) < 2:
        pytest.skip("one core")
    text = "matmul m=1 n=150 k=64 act=f32 weight=u4:32"
    assert build(text, tile=64, threads=2, split="interleaved").error() <= 1.0


def test_as_many_rows_as_are_the_familys_match_the_reference(build: Any) -> None:
    assert build("matmul m=7 n=70 k=96 act=f32 weight=u4:32 compute=f32").error() <= 1.0


@pytest.mark.parametrize("values", [(1e-7, 3e-6, 65504.0, -0.25, 70000.0, -1e-9)])
def test_float16_results_without_instructions_round_like_numpy(build: Any, values: tuple[float, ...]) -> None:
    built = build("matmul m=1 n=6 k=8 act=f32 weight=u1:row/f32 compute=f32 out=f16", "cpu,isa=portable")
    codes = np.zeros((6, 8), np.uint8)
    codes[:, 0] = 1  # with zero point 1 only the first of 8 is not -scale: x picks it out
    scales = np.array(values, np.float32)[:, None]
    weight = QuantizedWeight(built.workload["weight"], codes, scales)
    x = np.zeros((1, 8), np.float32)
    x[0, 1] = -1.0
    with np.errstate(over="ignore"):
        expected = scales[:, 0].astype(np.float16)
    np.testing.assert_array_equal(built([x, weight])[0], expected)
