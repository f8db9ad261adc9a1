"""Low-bit products are right: in Triton's interpreter, against float64, for every format and every variant."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import numpy as np
import pytest

from fettle.backends.api import Schedule, Value
from fettle.backends.host.executor import TrialResult
from fettle.backends.registry import resolve_device
from fettle.backends.spaces import enumerate_space, is_valid
from fettle.backends.triton.backend import target_of
from fettle.backends.triton.lowbit import defaults
from fettle.backends.triton.lowbit.layouts import values_in
from fettle.graph import data
from fettle.graph.errors import InvalidArgument
from fettle.graph.formats import Format
from fettle.graph.quantized import QuantizedWeight
from fettle.graph.workload import Workload

Prove = Callable[..., TrialResult]


@pytest.mark.parametrize(
    ("number", "weight"), list(enumerate(["u1:64", "u2:64", "u4:64:zp", "u5:64", "mxfp8", "nvfp4"]))
)
def test_any_schedule_is_right(prove: Prove, weight: str, number: int) -> None:
    act = ("f16", "bf16")[number % 2]
    assert prove(f"matmul m=5 n=48 k=256 act={act} weight={weight}", random=number).verified


def in_halfwords(prove: Prove, weight: str, act: str, **changes: Value) -> TrialResult:
    """A schedule whose codes lie in words of 16 bits; swapped or not, as the format's name has it."""
    fmt = Format.parse(weight)
    values = values_in(1 if fmt.is_binary_coded else fmt.bits, 16)
    swap = len(weight) % 2 == 0
    compute = "" if fmt.encodes_numbers else f" compute={act}"
    return prove(
        f"matmul m=3 n=40 k={max(256, 16 * values)} act={act} weight={weight}{compute}", values=values, planes="one",
        block_m=16, block_n=32, block_k=16 * values, warps=2, swap=swap, split=1, contiguous="nk"[swap], **changes,
    )  # fmt: skip


def test_stacked_planes_take_pieces_of_k_in_turn(prove: Prove) -> None:
    """Groups of two blocks; parts of K that begin within a piece."""
    changes = {"values": 16, "block_m": 16, "block_n": 32, "block_k": 256, "warps": 2, "swap": True, "contiguous": "k",
               "method": "ptx", "scale": "early", "split": 3, "reduce": "last"}  # fmt: skip
    assert prove("matmul m=3 n=40 k=1024 act=f16 weight=bcq2:512 compute=f16", **changes).verified


@pytest.mark.parametrize("method", ["ptx", "convert"])
def test_the_sign_of_a_scale_goes_to_its_codes(method: str) -> None:
    workload = Workload.parse("matmul m=1 n=32 k=256 act=f16 weight=nvfp4 compute=f16")
    backend, device = resolve_device("triton:sm_90")
    weight = data.operands(workload, 0)[1]
    assert isinstance(weight, QuantizedWeight)
    turned = np.zeros(weight.scales.shape, bool)
    turned[::2, 1::3] = True
    negative = attrs.evolve(
        weight,
        scales=np.where(turned, -weight.scales, weight.scales),
        codes=weight.codes ^ weight.expand(turned.astype(np.uint8) << 3),
    )
    assert np.array_equal(negative.dequantise(), weight.dequantise())
    make = defaults.default if method == "ptx" else defaults.converted
    schedule = make(workload, target_of(device))
    assert (schedule["method"] == "ptx") is (method == "ptx")
    family = backend.family(workload, device)
    for one, other in zip(*(family.pack(workload, schedule, (w,)) for w in (weight, negative)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_f16_is_not_scaled_by_what_it_has_not(prove: Prove) -> None:
    with pytest.raises(InvalidArgument, match="f16 does not hold the scales"):
        in_halfwords(prove, "mxfp4", "f16", method="ptx", scale="early")


@pytest.mark.parametrize("reduce", ["launch", "last"])
@pytest.mark.parametrize("split", [2, 3])
def test_parts_of_k_add_up(prove: Prove, split: int, reduce: str) -> None:
    changes = {"block_n": 64, "split": split, "block_k": 128, "reduce": reduce}
    assert prove("matmul m=3 n=40 k=512 act=bf16 weight=u4:64", **changes).verified


def test_launches_that_overlap_are_as_many_and_as_right(prove: Prove) -> None:
    """Three: activations to bytes, the product, the sum of its parts; sixteen rows fill the tile."""
    changes = {"algorithm": "integer", "method": "convert", "scale": "late", "values": 4, "block_k": 128,
               "block_m": 16, "block_n": 32, "warps": 2, "split": 2, "reduce": "launch", "overlap": True}  # fmt: skip
    text = "matmul m=16 n=32 k=256 act=bf16 weight=u8:64"
    assert prove(text, **changes).verified
    backend, device = resolve_device("triton:interpreter")
    workload = Workload.parse(text)
    schedule = Schedule.of(**backend.default(workload, device).as_dict() | changes)
    plan = backend.family(workload, device).plan(workload, schedule, target_of(device))
    assert [launch.dependent for launch in plan.launches] == [False, True, True]


@pytest.mark.parametrize(("target", "overlaps"), [("sm_80", False), ("sm_90", True), ("sm_120", True)])
def test_launches_overlap_where_the_gpu_lets_them(target: str, overlaps: bool) -> None:
    backend, device = resolve_device(f"triton:{target}")
    workload = Workload.parse("matmul m=16 n=4096 k=4096 act=bf16 weight=u4:128 compute=bf16")
    space = backend.space(workload, device)
    split = backend.default(workload, device).as_dict() | {"split": 2, "reduce": "launch", "overlap": True}
    assert is_valid(space, Schedule.of(**split)) is overlaps
    assert not is_valid(space, Schedule.of(**split | {"reduce": "last"})), "one launch overlaps with none"


@pytest.mark.parametrize("weight", ["u4:64", "u3:row"])
def test_sums_that_settle_in_each_pass_are_the_same(prove: Prove, weight: str) -> None:
    scale = "early" if weight == "u4:64" else "late"
    assert in_halfwords(prove, weight, "bf16", method="ptx", scale=scale, settle=True).verified


def test_only_sums_that_would_not_settle_anyway_can_be_asked_to(prove: Prove) -> None:
    with pytest.raises(InvalidArgument, match="fly across passes"):
        in_halfwords(prove, "u4:64", "f16", method="ptx", scale="late", settle=True)


@pytest.mark.parametrize(("m", "n"), [(3, 16), (20, 64)])
def test_a_stream_of_blocks_adds_up(prove: Prove, m: int, n: int) -> None:
    """Three blocks, of one tile, one a program; or 24, of eight tiles, eight a program: the second begins and ends
    within a tile."""
    changes = {"order": "stream", "split": 1, "block_m": 16, "block_n": 16, "block_k": 128, "warps": 2}
    assert prove(f"matmul m={m} n={n} k=384 act=f16 weight=u4:64", **changes).verified


@pytest.mark.parametrize("weight", ["u4:64", "u8:64", "tern:row", "u4:64:zp"])
@pytest.mark.parametrize("swap", [False, True])
def test_integer_activations_stay_within_the_bound_of_compute_i8(prove: Prove, weight: str, swap: bool) -> None:
    values, block_k = (4, 128) if weight.startswith("u8") else (2, 64)
    result = prove(f"matmul m=3 n=32 k=256 act=f16 weight={weight}", algorithm="integer", method="convert",
                   scale="late", swap=swap, values=values if weight != "tern:row" else 4,
                   block_k=block_k if weight != "tern:row" else 128, split=1, block_n=32, warps=2)  # fmt: skip
    assert result.verified
    assert result.error_ratio > 1e-3, "eight bits of activations are not exact"


@pytest.mark.parametrize("swap", [False, True])
def test_fp8_activations_stay_within_the_bound_of_compute_f8e4m3(prove: Prove, swap: bool) -> None:
    result = prove("matmul m=3 n=32 k=256 act=bf16 weight=f8e4m3:row compute=f8e4m3", algorithm="fp8",
                   scale="late", swap=swap, values=2, block_k=128, split=1, block_n=32, warps=2)  # fmt: skip
    assert result.verified
    assert result.error_ratio > 1e-2, "three bits of mantissa are not exact"


def test_late_scales_are_as_exact_as_f32(prove: Prove) -> None:
    assert prove("matmul m=3 n=32 k=256 act=bf16 weight=u4:64 out=f32 compute=f32").error_ratio < 0.5


def test_rows_and_columns_outside_the_matrix_are_left_alone(prove: Prove) -> None:
    assert prove("matmul m=17 n=50 k=128 act=f16 weight=u4:32", block_n=32, block_m=16).verified


@pytest.mark.parametrize(
    ("weight", "epilogue", "changes"),
    [
        ("u4:64", "relu(y+b0)+x0", {"swap": True, "split": 1}),
        ("u4:64:zp", "silu(y)*x0-b0", {"swap": False, "split": 1, "block_m": 16}),
        ("mxint8", "tanh(y)", {"swap": True, "split": 2, "reduce": "last"}),
    ],
)
def test_an_epilogue_is_applied_before_the_one_store(
    prove: Prove, weight: str, epilogue: str, changes: dict[str, Value]
) -> None:
    text = f"matmul m=3 n=50 k=256 act=bf16 weight={weight} compute=bf16 epilogue={epilogue}"
    assert prove(text, block_n=32, warps=2, block_k=128, **changes).verified


def test_sums_whose_parts_another_launch_adds_have_no_epilogue() -> None:
    backend, device = resolve_device("triton:sm_90")
    workload = Workload.parse("matmul m=3 n=64 k=4096 act=f16 weight=u4:64 compute=f16 epilogue=relu(y+b0)")
    points = enumerate_space(backend.space(workload, device))
    default = backend.default(workload, device).as_dict()
    with pytest.raises(InvalidArgument, match="parts of a sum have no epilogue"):
        points.schedule(default | {"split": 4, "reduce": "launch"})
    schedule = points.schedule(default | {"split": 4, "reduce": "last"})
    (launch,) = backend.family(workload, device).plan(workload, schedule, target_of(device)).launches
    assert launch.template == f"fused_lowbit:{workload['epilogue']}"


@pytest.mark.parametrize(
    ("text", "algorithm", "method"),
    [
        ("matmul m=70 n=130 k=256 act=bf16 weight=u8:row compute=i8", "integer", "convert"),
        ("matmul m=70 n=130 k=256 act=bf16 weight=f8e4m3:row compute=f8e4m3", "fp8", "convert"),
        ("matmul m=3 n=40 k=256 act=f16 weight=bcq2:64 compute=f16", "float", "raw"),
    ],
)
def test_what_a_search_starts_at_is_right(prove: Prove, text: str, algorithm: str, method: str) -> None:
    schedule = defaults.default(Workload.parse(text), target_of(resolve_device("triton:interpreter")[1]))
    assert (schedule["algorithm"], schedule["method"]) == (algorithm, method)
    assert prove(text, **schedule.as_dict()).verified


def test_a_large_batch_with_an_epilogue_has_a_default_of_one_launch() -> None:
    backend, device = resolve_device("triton:sm_90")
    workload = Workload.parse("matmul m=128 n=4096 k=4096 act=bf16 weight=u4:128 compute=bf16 epilogue=relu(y+b0)")
    schedule = backend.default(workload, device)
    assert (schedule["method"], schedule["block_m"], schedule["reduce"]) == ("ptx", 128, "last")
    assert len(backend.family(workload, device).plan(workload, schedule, target_of(device)).launches) == 1
