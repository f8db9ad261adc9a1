from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fettle.backends.api import Device, DeviceText, Profile, Roof
from fettle.backends.cpu import CpuBackend, profile
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.bound import workload_bound
from fettle.backends.cpu.profile import measure_profile
from fettle.graph.errors import InvalidArgument
from fettle.graph.workload import Workload

MACHINE = cpu.Machine(
    arch="x86_64",
    vendor="GenuineIntel",
    family=6,
    model=143,
    stepping=8,
    name="A server",
    features=cpu.LEVELS["avx512vnni"],
    caches=(("L1d", 32 << 10), ("L2", 1 << 20), ("L3", 16 << 20)),
    cores=2,
)
DEVICE = cpu.default_device(MACHINE)
ROOFS = (
    Roof("read:L1", 800e9, 2),
    Roof("read:L2", 400e9, 2),
    Roof("read:L3", 100e9, 2),
    Roof("read:dram", 20e9, 2),
    Roof("peak:f32", 500e9, 2),
    Roof("peak:i8", 2000e9, 2),
)


def bound(text: str, roofs: tuple[Roof, ...] = ROOFS, device: Device = DEVICE) -> tuple[float, str]:
    result = workload_bound(Workload.parse(text), device, Profile(device.key, roofs))
    return result.seconds, result.roof


@pytest.fixture(scope="module")
def measured(device: Device) -> Profile:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profile, "_ROOF_SECONDS", 0.005)
        return measure_profile(device)


def test_every_level_and_peak_has_a_positive_roof(measured: Profile, device: Device) -> None:
    names = {roof.name for roof in measured.roofs}
    levels = {f"read:{level}" for level, size in profile.capacities(device, 1).items() if size}
    assert names >= {*levels, "read:dram", "peak:f32"}
    assert ("peak:i8" in names) == ("avx2" in cpu.features(device))
    assert all(roof.value > 0 for roof in measured.roofs)
    assert measured.device_key == device.key


def test_working_sets_fit_their_level_and_exceed_the_one_below(measured: Profile, device: Device) -> None:
    held = 0
    for level, size in profile.capacities(device, 1).items():
        roof = measured.roof(f"read:{level}", 1)
        if roof is not None:
            assert held < roof.working_set <= size
            held = size
    dram = measured.roof("read:dram", 1)
    assert dram is not None
    assert dram.working_set > cpu.last_level_bytes(device) or dram.working_set == 1 << 29


def test_portable_device_has_roofs_without_vector_extensions(backend: CpuBackend) -> None:
    portable = backend.device(DeviceText.parse("cpu,isa=portable,threads=1"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profile, "_ROOF_SECONDS", 0.005)
        names = {roof.name for roof in measure_profile(portable).roofs}
    assert "peak:f32" in names
    assert "peak:i8" not in names


def test_more_threads_are_never_a_lower_roof() -> None:
    roofs = [Roof("read:L3", 30.0, 1), Roof("read:L3", 20.0, 2), Roof("peak:f32", 90.0, 1)]
    assert profile._at_least_as_fewer(roofs[1], roofs).value == 30.0
    assert profile._at_least_as_fewer(roofs[0], roofs).value == 30.0


def test_large_products_are_bound_by_arithmetic() -> None:
    seconds, roof = bound("matmul m=1024 n=1024 k=1024 act=f32 weight=f32")
    assert roof == "peak:f32"
    assert seconds == pytest.approx(2 * 1024**3 / 500e9)


def test_one_row_products_are_bound_by_reading_the_weight_from_where_it_fits() -> None:
    bytes_ = 4 * (1024 * 1024 + 2 * 1024)
    held = 2 * (32 << 10) + 2 * (1 << 20)
    seconds, roof = bound("matmul m=1 n=1024 k=1024 act=f32 weight=f32")
    assert roof == "read:L3"
    assert seconds == pytest.approx((bytes_ - held) / 100e9)
    assert bound("matmul m=1 n=16384 k=16384 act=f32 weight=f32")[1] == "read:dram"


def test_what_fits_in_l1_is_bound_by_l1() -> None:
    seconds, roof = bound("elementwise shape=1024 act=f32 expr=x0+1.0")
    assert roof == "read:L1"
    assert seconds == pytest.approx(8192 / 800e9)


def test_low_bit_weights_may_beat_the_byte_peak_by_table_lookup() -> None:
    one_bit = bound("matmul m=4096 n=1024 k=1024 act=f32 weight=bip1:128")[0]
    eight_bit = bound("matmul m=4096 n=1024 k=1024 act=f32 weight=u8:128")[0]
    assert eight_bit == pytest.approx(2 * 4096 * 1024 * 1024 / 2000e9)
    assert one_bit <= eight_bit / 4


def test_quantised_weights_have_no_arithmetic_bound_without_a_byte_peak() -> None:
    roofs = tuple(roof for roof in ROOFS if roof.name != "peak:i8")
    assert bound("matmul m=4096 n=1024 k=1024 act=f32 weight=u8:128", roofs)[1].startswith("read:")


def test_ternary_weights_count_their_entropy_not_their_codes() -> None:
    tern = bound("matmul m=1 n=16384 k=16384 act=f32 weight=tern:row")[0]
    two_bit = bound("matmul m=1 n=16384 k=16384 act=f32 weight=u2:row")[0]
    assert tern < two_bit


@given(n=st.integers(1, 4096), k=st.integers(1, 4096), more=st.integers(1, 4096))
def test_more_bytes_never_have_a_smaller_bound(n: int, k: int, more: int) -> None:
    text = "matmul m=1 n={} k={} act=f32 weight=f32"
    assert bound(text.format(n, k))[0] <= bound(text.format(n + more, k))[0]


def test_profile_of_another_device_is_rejected() -> None:
    with pytest.raises(InvalidArgument):
        workload_bound(Workload.parse("matmul m=1 n=8 k=8 act=f32 weight=f32"), DEVICE, Profile("other", ROOFS))
