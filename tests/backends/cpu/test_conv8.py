"""Convolutions of 8-bit codes."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from fettle.backends.api import Candidate, Device, DeviceText, Schedule
from fettle.backends.cpu import CpuBackend
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.conv8 import Conv8
from fettle.backends.cpu.conv8.plan import Plan
from fettle.backends.cpu.family import Lowered
from fettle.backends.spaces import enumerate_space, is_valid
from fettle.graph.errors import InvalidWorkload
from fettle.graph.workload import Workload

CONV = Conv8()
Error = Callable[[str, Device, Schedule], float]
FEW = settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
MANY = settings(max_examples=40, deadline=None, derandomize=True)
ENDS = ("", " epilogue=y*b0+b1 out=u8", " epilogue=round(y*b0+b1)+b2 out=i8", " epilogue=tanh(y*b0)")


@st.composite
def workloads(draw: st.DrawFn, largest: int) -> Workload:
    def size(most: int) -> int:
        return draw(st.integers(1, most))

    group = draw(st.sampled_from((1, 1, 2, 5)))
    c = 1 if group == 5 else size(11)
    pads = "x".join(str(draw(st.integers(0, 3))) for _ in range(4))
    text = (
        f"conv2d n={size(2)} c={group * c} h={size(largest)} w={size(largest)}"
        f" oc={group * size(9)} kh={size(5)} kw={size(5)} stride={size(3)}x{size(3)} pad={pads}"
        f" dilation={size(2)}x{size(2)} group={group} act={draw(st.sampled_from(('u8', 'i8')))} weight=i8"
        f" zero={draw(st.sampled_from(('true', 'false')))}"
    )
    try:
        return Workload.parse(text + draw(st.sampled_from(ENDS)))
    except InvalidWorkload:
        assume(False)
        raise


@FEW
@given(workload=workloads(22), drawn=st.data())
def test_every_schedule_is_right_for_every_shape(
    workload: Workload, drawn: st.DataObject, device: Device, error_of: Error
) -> None:
    points = enumerate_space(CONV.space(workload, device))
    schedule = points[drawn.draw(st.integers(0, len(points) - 1))]
    assert error_of(str(workload), device, schedule) <= 1


@pytest.mark.parametrize(
    "shape",
    [
        "n=1 c=3 h=23 w=21 oc=10 kh=7 kw=7 stride=2 pad=3 act=u8 weight=i8 zero=true epilogue=y*b0+b1 out=u8",
        "n=2 c=9 h=9 w=13 oc=7 kh=1 kw=1 act=i8 weight=i8 zero=true epilogue=round(y*b0)+b1 out=i8",
        "n=2 c=6 h=14 w=14 oc=6 kh=3 kw=3 stride=2 pad=0x0x1x1 group=6 act=u8 weight=i8 zero=true",
    ],
)
def test_defaults_are_right_at_every_isa_level(any_isa: Device, error_of: Error, shape: str) -> None:
    workload = Workload.parse(f"conv2d {shape}")
    assert error_of(str(workload), any_isa, CONV.default(workload, any_isa)) <= 1


def test_machines_without_instructions_for_bytes_multiply_words(
    device: Device, error_of: Error, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fettle.backends.cpu.conv8.kernel import emit

    def lower(self: Conv8, candidate: Candidate) -> Lowered:
        plan = Plan.of(candidate.workload, candidate.schedule, candidate.device)
        return Lowered(emit(attrs.evolve(plan, dot="plain"), candidate.device))

    monkeypatch.setattr(Conv8, "lower", lower)
    workload = Workload.parse("conv2d n=1 c=7 h=9 w=9 oc=3 kh=3 kw=3 pad=1 act=i8 weight=i8 zero=true")
    assert error_of(str(workload), device, CONV.default(workload, device)) <= 1


@pytest.mark.parametrize("extreme", [(255, 127), (255, -128), (0, -128)])
def test_the_largest_codes_do_not_overflow(backend: CpuBackend, any_isa: Device, extreme: tuple[int, int]) -> None:
    workload = Workload.parse("conv2d n=1 c=64 h=3 w=3 oc=2 kh=3 kw=3 act=u8 weight=i8 zero=true")
    kernel = backend.load(backend.build(Candidate(workload, any_isa, CONV.default(workload, any_isa))))
    x, weight = np.full((1, 64, 3, 3), extreme[0], np.uint8), np.full((2, 64, 3, 3), extreme[1], np.int8)
    out = np.zeros((1, 2, 1, 1), np.int32)
    kernel.run([x, np.uint8([255 - extreme[0]])], kernel.pack([weight]), out)
    assert (out == (2 * extreme[0] - 255) * extreme[1] * 576).all()


@pytest.mark.skipif(len(cpu.usable_cores()) < 2, reason="needs two cores")
def test_two_threads_compute_what_one_computes(backend: CpuBackend, error_of: Error) -> None:
    device = backend.device(DeviceText.parse("cpu,threads=2"))
    workload = Workload.parse("conv2d n=1 c=8 h=17 w=17 oc=20 kh=3 kw=3 pad=1 act=u8 weight=i8 zero=true")
    schedule = CONV.default(workload, device)
    assert schedule["threads"] == 2
    assert Plan.of(workload, schedule, device).grid.tasks >= 2
    assert error_of(str(workload), device, schedule) <= 1


@MANY
@given(
    workload=workloads(120),
    level=st.sampled_from([le for le in cpu.LEVELS if le != "avx512"]),
    threads=st.integers(1, 9),
)
def test_default_is_a_point_of_the_space(workload: Workload, level: str, threads: int) -> None:
    machine = attrs.evolve(cpu.Machine.detect(), features=cpu.LEVELS["amx"], cores=9)
    device = cpu.parse_device(DeviceText.parse(f"cpu,isa={level},threads={threads}"), machine)
    assert is_valid(CONV.space(workload, device), CONV.default(workload, device))


def test_packed_words_hold_four_channels_or_four_rows() -> None:
    weight = np.random.default_rng(0).integers(-128, 128, (3, 6, 2, 3), np.int8)
    workload = Workload.parse("conv2d n=1 c=6 h=5 w=5 oc=3 kh=2 kw=3 act=u8 weight=i8")
    packed, sums = CONV.pack(workload, Schedule.of(micro_oc=2), [weight])
    assert packed.shape == (2, 2, 6, 2)
    assert (sums == weight.sum(axis=(1, 2, 3), dtype=np.int32)).all()
    codes = packed.view(np.int8).reshape(2, 2, 6, 2, 4)
    for o, c, r, s in np.ndindex(4, 8, 2, 3):
        expected = weight[o, c, r, s] if o < 3 and c < 6 else 0
        assert codes[o // 2, c // 4, r * 3 + s, o % 2, c % 4] == expected
    depthwise = Workload.parse("conv2d n=1 c=2 h=5 w=5 oc=2 kh=3 kw=2 group=2 act=u8 weight=i8")
    packed, _ = CONV.pack(depthwise, Schedule.of(micro_oc=1), [weight[:2, :1, :2].repeat(2, axis=2)[:, :, :3, :2]])
    assert packed.shape == (2, 1, 2, 1)
    assert packed.view(np.int8).reshape(2, 2, 4)[:, :, 3].tolist() == [[0, 0], [0, 0]]


@pytest.mark.skipif(not cpu.LEVELS["avx512vnni"] <= cpu.Machine.detect().features, reason="needs AVX-512 VNNI")
def test_sums_of_the_default_stay_in_registers(backend: CpuBackend) -> None:
    device = backend.device(DeviceText.parse("cpu,isa=avx512vnni,threads=1"))
    workload = Workload.parse("conv2d n=1 c=32 h=28 w=28 oc=24 kh=3 kw=3 pad=1 act=u8 weight=i8")
    schedule = CONV.default(workload, device)
    facts = dict(backend.build(Candidate(workload, device, schedule)).facts)
    products = schedule["micro_oc"] * schedule["vectors"]
    assert int(facts["vpdpbusd"]) == 9 * products
    assert int(facts["spills"]) < 2 * products


def test_inputs_that_offsets_do_not_reach_are_declined_with_a_reason(device: Device) -> None:
    support = CONV.supports(Workload.parse("conv2d n=1 c=64 h=2048 w=2048 oc=4 kh=3 kw=3 act=u8 weight=i8"), device)
    assert not support
    assert "2^27 elements" in support.reason


def test_features_are_finite_numbers(device: Device) -> None:
    workload = Workload.parse("conv2d n=1 c=8 h=28 w=28 oc=24 kh=3 kw=3 pad=1 act=u8 weight=i8")
    features = CONV.features(Candidate(workload, device, CONV.default(workload, device)))
    assert all(np.isfinite(value) for value in features.values())
    assert 0 < features["efficiency"] <= 1
