from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from fettle.backends.api import Candidate, Device, DeviceText, Schedule
from fettle.backends.cpu import CpuBackend
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.conv import Conv
from fettle.backends.cpu.conv.geometry import Geometry
from fettle.backends.spaces import enumerate_space, is_valid
from fettle.graph.errors import InvalidWorkload
from fettle.graph.workload import Workload

CONV = Conv()
Error = Callable[[str, Device, Schedule], float]
FEW = settings(
    max_examples=16, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
MANY = settings(max_examples=60, deadline=None, derandomize=True)
EPILOGUES = ("", " epilogue=relu(y+b0)", " epilogue=relu(y*b0+b1+x0)", " epilogue=silu(y)")


@st.composite
def workloads(draw: st.DrawFn, largest: int) -> Workload:
    def size(most: int) -> int:
        return draw(st.integers(1, most))

    group = draw(st.sampled_from((1, 1, 2, 5)))
    pads = "x".join(str(draw(st.integers(0, 3))) for _ in range(4))
    text = (
        f"conv2d n={size(2)} c={group * size(20 // group)} h={size(largest)} w={size(largest)}"
        f" oc={group * size(20 // group)} kh={size(4)} kw={size(4)} stride={size(3)}x{size(3)} pad={pads}"
        f" dilation={size(3)}x{size(3)} group={group} act=f32 weight=f32"
    )
    try:
        return Workload.parse(text + draw(st.sampled_from(EPILOGUES)))
    except InvalidWorkload:
        assume(False)
        raise


@FEW
@given(workload=workloads(24), drawn=st.data())
def test_every_schedule_is_right_for_every_shape(
    workload: Workload, drawn: st.DataObject, device: Device, error_of: Error
) -> None:
    points = enumerate_space(CONV.space(workload, device))
    schedule = points[drawn.draw(st.integers(0, len(points) - 1))]
    assert error_of(str(workload), device, schedule) <= 1


@settings(FEW, max_examples=6)
@given(drawn=st.data(), group=st.sampled_from((1, 3)), epilogue=st.sampled_from(EPILOGUES))
def test_filters_of_one_tap_read_their_input_in_place(
    drawn: st.DataObject, group: int, epilogue: str, device: Device, error_of: Error
) -> None:
    n, c, h, w, oc = (drawn.draw(st.integers(1, most)) for most in (2, 9, 12, 12, 9))
    text = (
        f"conv2d n={n} c={c * group} h={h} w={w} oc={oc * group} kh=1 kw=1 group={group} act=f32 weight=f32{epilogue}"
    )
    points = [p for p in enumerate_space(CONV.space(Workload.parse(text), device)) if p["input"] == "in_place"]
    assume(points)
    assert error_of(text, device, drawn.draw(st.sampled_from(points))) <= 1


@pytest.mark.parametrize(("change", "offered"), [("", True), (" stride=2", False), (" pad=0x0x0x1", False)])
def test_only_filters_that_neither_move_nor_pad_read_in_place(device: Device, change: str, offered: bool) -> None:
    workload = Workload.parse(f"conv2d n=1 c=8 h=8 w=8 oc=8 kh=1 kw=1{change} act=f32 weight=f32")
    assert (CONV.default(workload, device)["input"] == "in_place") is offered
    points = enumerate_space(CONV.space(workload, device))
    assert any(p["input"] == "in_place" for p in points) is offered


@pytest.mark.parametrize(
    "shape",
    [
        "n=1 c=3 h=23 w=21 oc=10 kh=7 kw=7 stride=2 pad=3",
        "n=2 c=5 h=9 w=40 oc=7 kh=1 kw=1 epilogue=relu(y+b0)+x0",
        "n=1 c=2 h=4 w=30 oc=3 kh=2 kw=12 pad=2 dilation=2",
        "n=2 c=6 h=14 w=14 oc=6 kh=3 kw=3 stride=2 pad=0x0x1x1 group=6 epilogue=relu(y+b0)+x0",
        "n=1 c=6 h=1 w=50 oc=9 kh=1 kw=5 pad=0x2x0x2 group=3",
    ],
)
def test_defaults_are_right_at_every_isa_level(any_isa: Device, error_of: Error, shape: str) -> None:
    workload = Workload.parse(f"conv2d {shape} act=f32 weight=f32")
    assert error_of(str(workload), any_isa, CONV.default(workload, any_isa)) <= 1


@pytest.mark.skipif(len(cpu.usable_cores()) < 2, reason="needs two cores")
def test_two_threads_compute_what_one_computes(backend: CpuBackend, error_of: Error) -> None:
    device = backend.device(DeviceText.parse("cpu,threads=2"))
    workload = Workload.parse("conv2d n=1 c=8 h=17 w=17 oc=20 kh=3 kw=3 pad=1 act=f32 weight=f32")
    schedule = CONV.default(workload, device)
    assert schedule["threads"] == 2
    assert Geometry.of(workload, schedule, device).tasks >= 2
    assert error_of(str(workload), device, schedule) <= 1


@MANY
@given(
    workload=workloads(300),
    level=st.sampled_from([le for le in cpu.LEVELS if le != "avx512"]),
    threads=st.integers(1, 9),
)
def test_default_is_a_point_of_the_space(workload: Workload, level: str, threads: int) -> None:
    import attrs

    machine = attrs.evolve(cpu.Machine.detect(), features=cpu.LEVELS["amx"], cores=9)
    device = cpu.parse_device(DeviceText.parse(f"cpu,isa={level},threads={threads}"), machine)
    assert is_valid(CONV.space(workload, device), CONV.default(workload, device))


def test_packed_filters_hold_the_weight_and_zeros() -> None:
    workload = Workload.parse("conv2d n=1 c=2 h=5 w=5 oc=5 kh=2 kw=3 act=f32 weight=f32")
    weight = np.random.default_rng(0).standard_normal((5, 2, 2, 3), np.float32)
    (packed,) = CONV.pack(workload, Schedule.of(micro_oc=4), [weight])
    assert packed.shape == (2, 2, 6, 4)
    for o, c, r, s in np.ndindex(8, 2, 2, 3):
        assert packed[o // 4, c, r * 3 + s, o % 4] == (weight[o, c, r, s] if o < 5 else 0.0)


def test_each_group_of_channels_has_panels_of_its_own() -> None:
    workload = Workload.parse("conv2d n=1 c=4 h=5 w=5 oc=6 kh=1 kw=2 group=2 act=f32 weight=f32")
    weight = np.random.default_rng(0).standard_normal((6, 2, 1, 2), np.float32)
    (packed,) = CONV.pack(workload, Schedule.of(micro_oc=2), [weight])
    assert packed.shape == (4, 2, 2, 2)
    for group, o, c, s in np.ndindex(2, 4, 2, 2):
        expected = weight[3 * group + o, c, 0, s] if o < 3 else 0.0
        assert packed[2 * group + o // 2, c, s, o % 2] == expected


@pytest.mark.skipif(not cpu.LEVELS["avx512"] <= cpu.Machine.detect().features, reason="needs AVX-512")
def test_sums_of_the_default_stay_in_registers(backend: CpuBackend) -> None:
    device = backend.device(DeviceText.parse("cpu,isa=avx512,threads=1"))
    workload = Workload.parse("conv2d n=1 c=8 h=28 w=28 oc=24 kh=3 kw=3 pad=1 act=f32 weight=f32")
    schedule = CONV.default(workload, device)
    facts = dict(backend.build(Candidate(workload, device, schedule)).facts)
    sums = schedule["micro_oc"] * schedule["micro_n"] // 16
    assert int(facts["fma"]) == 9 * sums
    assert int(facts["spills"]) < 2 * sums  # addresses at the start, not sums at every tap


def test_inputs_that_offsets_do_not_reach_are_declined_with_a_reason(device: Device) -> None:
    text = "conv2d n=1 c=4 h=8192 w=8192 oc=4 kh=3 kw=3 act=f32 weight=f32"
    support = CONV.supports(Workload.parse(text), device)
    assert not support
    assert "2^27 elements" in support.reason


def test_features_are_finite_numbers(device: Device) -> None:
    workload = Workload.parse("conv2d n=1 c=8 h=28 w=28 oc=24 kh=3 kw=3 pad=1 act=f32 weight=f32")
    features = CONV.features(Candidate(workload, device, CONV.default(workload, device)))
    assert all(np.isfinite(value) for value in features.values())
    assert 0 < features["efficiency"] <= 1
