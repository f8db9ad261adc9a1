from __future__ import annotations

import platform
from itertools import pairwise
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fettle.backends.api import Device, DeviceText
from fettle.backends.cpu import device as cpu
from fettle.graph.errors import InvalidDevice, Unsupported

SERVER = cpu.Machine(
    arch="x86_64",
    vendor="GenuineIntel",
    family=6,
    model=143,
    stepping=8,
    name="A server",
    features=cpu.LEVELS["amx"] | {"avx512fp16", "avxvnni"},
    caches=(("L1d", 48 << 10), ("L2", 2 << 20), ("L3", 105 << 20)),
    cores=8,
)
LAPTOP = attrs.evolve(SERVER, features=cpu.LEVELS["avx2"] | {"avxvnni"}, model=151, cores=4)
ARM = attrs.evolve(SERVER, arch="aarch64", vendor="0x41", features=frozenset())


def parse(text: str, machine: cpu.Machine = SERVER) -> object:
    return cpu.parse_device(DeviceText.parse(text), machine)


@given(threads=st.none() | st.integers(1, 8), isa=st.none() | st.sampled_from(sorted(cpu.LEVELS)))
def test_text_of_a_device_names_an_equal_device(threads: int | None, isa: str | None) -> None:
    options = {"threads": threads, "isa": isa}
    text = ",".join(["cpu", *(f"{name}={value}" for name, value in options.items() if value is not None)])
    device = cpu.parse_device(DeviceText.parse(text), SERVER)
    again = cpu.parse_device(DeviceText.parse(str(device)), SERVER)
    assert again == device
    assert again.key == device.key


def test_isa_levels_ascend() -> None:
    levels = list(cpu.LEVELS.values())
    assert all(lower < higher for lower, higher in pairwise(levels))


@pytest.mark.parametrize(("limit", "counts"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (8, (1, 2, 4, 8))])
def test_thread_counts_are_powers_of_two_and_the_limit(limit: int, counts: tuple[int, ...]) -> None:
    assert cpu.thread_counts(cpu.default_device(attrs.evolve(SERVER, cores=limit))) == counts


def test_without_options_the_device_is_the_whole_machine() -> None:
    device = cpu.default_device(SERVER)
    assert cpu.threads(device) == 8
    assert cpu.features(device) == SERVER.features
    assert device == parse("cpu") == parse("cpu,threads=8")


def test_isa_level_hides_every_other_feature() -> None:
    device = cpu.parse_device(DeviceText.parse("cpu,isa=avx2"), LAPTOP)
    assert "avxvnni" not in cpu.features(device)
    assert {"avx2", "fma", "f16c"} <= cpu.features(device)
    assert cpu.vector_bits(device) == 256
    assert cpu.features(cpu.parse_device(DeviceText.parse("cpu,isa=portable"), LAPTOP)) == frozenset()


def test_limits_are_part_of_the_identity_and_the_label_is_not() -> None:
    keys = {cpu.parse_device(DeviceText.parse(t), SERVER).key for t in ("cpu", "cpu,threads=2", "cpu,isa=avx512")}
    assert len(keys) == 3
    assert cpu.default_device(attrs.evolve(SERVER, name="Other name")).key == cpu.default_device(SERVER).key
    assert cpu.default_device(attrs.evolve(SERVER, stepping=9)).key != cpu.default_device(SERVER).key


def test_number_of_cores_matters_only_through_the_thread_limit() -> None:
    small = attrs.evolve(SERVER, cores=2)
    assert cpu.default_device(small) == parse("cpu,threads=2")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cpu:big", "preset"),
        ("cpu,frequency=3", "threads isa"),
        ("cpu,isa=avx1024", "portable avx2"),
        ("cpu,threads=0", "whole number between 1 and 8"),
        ("cpu,threads=9", "whole number between 1 and 8"),
        ("cpu,threads=two", "whole number between 1 and 8"),
    ],
)
def test_malformed_options_are_invalid_and_say_what_is_allowed(text: str, words: str) -> None:
    with pytest.raises(InvalidDevice, match=words):
        parse(text)


def test_isa_the_machine_lacks_is_unsupported() -> None:
    with pytest.raises(Unsupported, match="avx512bw"):
        parse("cpu,isa=avx512", LAPTOP)


def test_a_machine_that_is_not_x86_is_a_portable_device() -> None:
    device = cpu.default_device(ARM)
    assert cpu.features(device) == frozenset()
    assert cpu.vector_bits(device) == 128
    assert cpu.parse_device(DeviceText.parse("cpu,isa=portable"), ARM).limit("isa") == "portable"


CPUINFO = """\
processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 143
model name\t: Intel(R) Xeon(R) Platinum 8480+
stepping\t: 8
flags\t\t: fpu sse2 pni ssse3 sse4_1 sse4_2 popcnt abm movbe bmi1 bmi2 avx f16c fma avx2 avx_vnni avx512f avx512dq \
avx512cd avx512bw avx512vl avx512vbmi avx512_vbmi2 avx512_vnni avx512_bf16 avx512_fp16 amx_bf16 amx_tile amx_int8

processor\t: 1
flags\t\t: fpu
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="flags of x86")
def test_tile_registers_are_detected_from_the_flags_of_the_processor(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(CPUINFO)
    machine = cpu.Machine.detect(path)
    assert (machine.vendor, machine.family, machine.model, machine.stepping) == ("GenuineIntel", 6, 143, 8)
    device = cpu.parse_device(DeviceText.parse("cpu,isa=amx,threads=1"), machine)
    assert cpu.features(device) == cpu.LEVELS["amx"]
    assert "avx512fp16" in cpu.features(cpu.default_device(machine)) - cpu.features(device)
    path.write_text(CPUINFO.replace(" amx_int8", ""))
    with pytest.raises(Unsupported, match="amx-int8"):
        cpu.parse_device(DeviceText.parse("cpu,isa=amx,threads=1"), cpu.Machine.detect(path))


def test_missing_features_are_those_the_machine_lacks() -> None:
    assert cpu.missing_features(("avx2", "avx512f", "amx-int8"), LAPTOP) == ("amx-int8", "avx512f")


def test_this_machine_is_detected() -> None:
    machine = cpu.Machine.detect()
    device = cpu.default_device(machine)
    assert machine.cores == len(set(cpu.usable_cores())) >= 1
    assert cpu.last_level_bytes(device) >= cpu.cache_bytes(device, "L2") >= 0


def test_caches_are_the_machines_or_those_of_a_small_one() -> None:
    told = Device("cpu", "", (("L1d_bytes", 49152), ("L2_bytes", 2 << 20)), ())
    silent = Device("cpu", "", (), ())
    assert (cpu.l1_bytes(told), cpu.l2_bytes(told)) == (48 << 10, 2 << 20)
    assert (cpu.l1_bytes(silent), cpu.l2_bytes(silent)) == (32 << 10, 512 << 10)
