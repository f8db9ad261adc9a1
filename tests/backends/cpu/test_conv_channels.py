"""Convolutions whose output channels lie in the lanes of vectors."""

from __future__ import annotations

import ctypes
import mmap
import re
from collections.abc import Callable

import attrs
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from fettle.backends.api import Candidate, Device, DeviceText, Schedule
from fettle.backends.cpu import CpuBackend, codegen
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.conv import Conv
from fettle.backends.cpu.conv.channel_geometry import ChannelGeometry, geometry_of
from fettle.backends.spaces import enumerate_space
from fettle.graph import data
from fettle.graph.errors import InvalidWorkload
from fettle.graph.workload import Workload
from tests.backends.cpu.errors import largest_error

CONV = Conv()
Error = Callable[[str, Device, Schedule], float]
EPILOGUES = ("", " epilogue=relu(y+b0)", " epilogue=relu(y*b0+b1+x0)", " epilogue=silu(y)")
PAGE = mmap.PAGESIZE


def fenced(array: np.ndarray) -> np.ndarray:
    """A copy that ends where memory that nobody may touch begins."""
    size = -(-max(array.nbytes, 1) // PAGE) * PAGE
    pages = mmap.mmap(-1, size + PAGE)
    start = np.frombuffer(pages, np.uint8).ctypes.data
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mprotect(ctypes.c_void_p(start + size), ctypes.c_size_t(PAGE), 0) == 0
    copy = np.frombuffer(pages, np.uint8, array.nbytes, size - array.nbytes).view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def fenced_error(backend: CpuBackend, workload: Workload, device: Device, schedule: Schedule) -> float:
    """Largest error in units of the tolerance; reading or writing beyond an array ends the process."""
    kernel = backend.load(backend.build(Candidate(workload, device, schedule)))
    operands = data.operands(workload, 7)
    constant = [t.constant for t in workload.operands]
    inputs = [fenced(np.asarray(o)) for o, c in zip(operands, constant, strict=True) if not c]
    packed = kernel.pack([o for o, c in zip(operands, constant, strict=True) if c])
    out = fenced(np.full(workload.result.shape, np.nan, np.float32))
    kernel.run(inputs, [fenced(array) for array in packed], out)
    return largest_error(workload, operands, out)


def of_channels(workload: Workload, device: Device) -> list[Schedule]:
    return [p for p in enumerate_space(CONV.space(workload, device)) if p["lanes"] == "channels"]


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    def size(most: int) -> int:
        return draw(st.integers(1, most))

    group, one_tap = draw(st.sampled_from((1, 1, 2, 3))), draw(st.booleans())
    text = f"conv2d n={size(2)} c={group * size(7)} h={size(20)} w={size(20)} oc={group * draw(st.integers(9, 40))}"
    if one_tap:
        text += " kh=1 kw=1"
    else:
        pads = "x".join(str(draw(st.integers(0, 3))) for _ in range(4))
        text += f" kh={size(4)} kw={size(4)} stride={size(3)}x{size(3)} pad={pads} dilation={size(3)}x{size(3)}"
    try:
        return Workload.parse(f"{text} group={group} act=f32 weight=f32{draw(st.sampled_from(EPILOGUES))}")
    except InvalidWorkload:
        assume(False)
        raise


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(workload=workloads(), drawn=st.data())
def test_every_schedule_is_right_for_every_shape_and_stays_within_its_arrays(
    workload: Workload, drawn: st.DataObject, device: Device, backend: CpuBackend
) -> None:
    points = of_channels(workload, device)
    schedule = points[drawn.draw(st.integers(0, len(points) - 1))]
    assert fenced_error(backend, workload, device, schedule) <= 1


@pytest.mark.parametrize(
    "shape",
    [
        "n=2 c=5 h=9 w=7 oc=21 kh=3 kw=3 pad=1 epilogue=relu(y+b0)+x0",
        "n=1 c=6 h=5 w=11 oc=34 kh=1 kw=1 group=2",
        "n=1 c=3 h=12 w=31 oc=20 kh=2 kw=11 stride=2 pad=5",
    ],
)
def test_squares_of_every_width_of_vectors_are_transposed(any_isa: Device, error_of: Error, shape: str) -> None:
    workload = Workload.parse(f"conv2d {shape} act=f32 weight=f32")
    points = of_channels(workload, any_isa)
    assert error_of(str(workload), any_isa, points[len(points) // 2]) <= 1


@pytest.mark.skipif(len(cpu.usable_cores()) < 2, reason="needs two cores")
@pytest.mark.parametrize("change", [{}, {"tile_h": 4, "tile_oc": 3}, {"tile_h": 4, "tile_oc": 1, "inner": "weights"}])
def test_threads_share_channels_or_bands_that_overlap(
    backend: CpuBackend, error_of: Error, change: dict[str, int]
) -> None:
    device = backend.device(DeviceText.parse("cpu,threads=2"))
    workload = Workload.parse("conv2d n=1 c=8 h=10 w=7 oc=90 kh=3 kw=3 pad=1 act=f32 weight=f32")
    default = CONV.default(workload, device)
    assert default["lanes"] == "channels"
    schedule = Schedule.of(**default.as_dict() | change)
    assert geometry_of(workload, schedule, device).tasks >= 2
    assert error_of(str(workload), device, schedule) <= 1


@pytest.mark.parametrize(
    ("shape", "lanes"),
    [
        ("c=512 h=7 w=7 oc=512 kh=3 kw=3 pad=1", "channels"),  # 49 pixels fill no 64 lanes
        ("c=64 h=56 w=56 oc=64 kh=3 kw=3 pad=1", "channels"),  # between rows of pixels lie elements of no use
        ("c=16 h=64 w=64 oc=96 kh=1 kw=1", "pixels"),  # to transpose sums of 16 products would be most of the work
        ("c=64 h=64 w=64 oc=18 kh=3 kw=3 pad=1", "pixels"),  # 18 channels fill no 32 lanes
        ("c=96 h=14 w=14 oc=96 kh=3 kw=3 pad=1 group=96", "pixels"),
    ],
)
def test_the_untuned_choice_has_those_lanes_that_it_fills(backend: CpuBackend, shape: str, lanes: str) -> None:
    device = backend.device(DeviceText.parse("cpu,threads=1"))
    if cpu.vector_bits(device) < 512:
        pytest.skip("of vectors of 16 lanes")
    workload = Workload.parse(f"conv2d n=1 {shape} act=f32 weight=f32")
    assert CONV.default(workload, device)["lanes"] == lanes


def test_groups_of_few_channels_have_no_schedules_of_that_kind(device: Device) -> None:
    workload = Workload.parse("conv2d n=1 c=64 h=14 w=14 oc=64 kh=3 kw=3 pad=1 group=32 act=f32 weight=f32")
    assert not of_channels(workload, device)


def test_a_band_is_whole_register_tiles_in_its_rows_or_of_its_rows(device: Device) -> None:
    workload = Workload.parse("conv2d n=1 c=4 h=7 w=7 oc=32 kh=3 kw=3 pad=1 act=f32 weight=f32")
    geometries = {geometry_of(workload, point, device) for point in of_channels(workload, device)}
    for g in geometries:
        assert isinstance(g, ChannelGeometry)
        assert g.micro_n == g.tile_rows * g.tile_columns
        assert (g.tile_columns == 7) if g.tile_rows > 1 else (g.tile_columns <= 7)
        assert g.groups * g.micro_n >= 7 * g.tile_h
    assert {g.tile_rows for g in geometries} >= {1, 2}


@pytest.mark.skipif(not cpu.LEVELS["avx512"] <= cpu.Machine.detect().features, reason="needs AVX-512")
@pytest.mark.parametrize(("stride", "spread"), [(1, 8 + 2), (2, 8 + 8 + 1)])
def test_each_element_is_spread_once_a_row_and_sums_stay_in_registers(
    backend: CpuBackend, stride: int, spread: int
) -> None:
    device = backend.device(DeviceText.parse("cpu,isa=avx512,threads=1"))
    workload = Workload.parse(f"conv2d n=1 c=64 h=32 w=32 oc=64 kh=3 kw=3 stride={stride} pad=1 act=f32 weight=f32")
    schedule = CONV.default(workload, device)
    assert (schedule["lanes"], schedule["micro_oc"], schedule["micro_n"]) == ("channels", 32, 8)
    products = inner_loop(codegen.assembly(CONV.lower(Candidate(workload, device, schedule)), device))
    assert sum("vfmadd" in line for line in products) == 9 * 8 * 2
    assert sum("vbroadcastss" in line for line in products) == 3 * spread
    assert sum(bool(re.search(r"vmovu?ps\s+\S*\(", line)) for line in products) == 9 * 2  # weights
    assert not any("(%rsp)" in line or "(%rbp)" in line for line in products)


def inner_loop(assembly: str) -> list[str]:
    """Instructions of the basic block that multiplies."""
    blocks: list[list[str]] = [[]]
    for line in assembly.splitlines():
        if re.match(r"\.LBB\w+:", line):
            blocks.append([])
        elif line.startswith("\t") and not line.lstrip().startswith((".", "#")):
            blocks[-1].append(line)
    return max(blocks, key=lambda block: sum("vfmadd" in line for line in block))


def test_features_tell_the_lanes_apart(device: Device) -> None:
    workload = Workload.parse("conv2d n=1 c=8 h=28 w=28 oc=32 kh=3 kw=3 pad=1 act=f32 weight=f32")
    points = enumerate_space(CONV.space(workload, device))
    for lanes in ("pixels", "channels"):
        point = next(p for p in points if p["lanes"] == lanes)
        features = CONV.features(Candidate(workload, device, point))
        assert all(np.isfinite(value) for value in features.values())
        assert features["channel_lanes"] == (lanes == "channels")
        assert 0 < features["efficiency"] <= 1


def test_bands_that_threads_share_are_dearer_than_channels_that_they_share() -> None:
    machine = attrs.evolve(cpu.Machine.detect(), features=cpu.LEVELS["avx512"], cores=2)
    device = cpu.parse_device(DeviceText.parse("cpu,threads=2"), machine)
    workload = Workload.parse("conv2d n=1 c=64 h=14 w=14 oc=64 kh=1 kw=1 act=f32 weight=f32")
    schedule = CONV.default(workload, device)
    assert (schedule["lanes"], schedule["tile_h"]) == ("channels", 14)
    assert geometry_of(workload, schedule, device).contested == 0
    cut = Schedule.of(**schedule.as_dict() | {"tile_h": 7, "tile_oc": 2})
    assert geometry_of(workload, cut, device).contested == 64
