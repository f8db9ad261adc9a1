"""Device texts and presets of the pim backend."""

from __future__ import annotations

import pytest

from fettle.backends.api import DeviceText
from fettle.backends.pim.backend import PimBackend
from fettle.backends.pim.preset import preset_names, read_preset
from fettle.backends.pim.tables import tables
from fettle.backends.registry import resolve_device
from fettle.graph.errors import InvalidArgument, InvalidDevice, Unsupported
from fettle.graph.workload import Workload
from tests.backends.pim.mappings import PRESETS

GEMV = Workload.parse("matmul m=1 n=64 k=64 act=bf16 weight=bf16")


def test_presets_are_those_of_the_data_files() -> None:
    assert set(preset_names()) == set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_names_its_sources_and_only_its_own_commands(name: str) -> None:
    preset = read_preset(name)
    assert len(preset.source) > 60
    assert "et al." in preset.energy_source
    for level, first, second, cycles in (*preset.constraints, *preset.shared_row_buffer):
        assert level in ("channel", "bankgroup", "bank")
        assert {*preset.expand(first), *preset.expand(second)} <= set(preset.commands)
        assert preset.cycles(cycles) >= 0
    assert len(tables(name).rules.gaps) >= len(preset.constraints)


def test_cycles_are_sums_and_never_negative() -> None:
    preset = read_preset("gddr6-aim")
    assert preset.cycles("CL + BL + 3 - CWL + WPRE") == 50 + 2 + 3 - 6 + 1
    assert preset.cycles("BL - CL") == 0


@pytest.mark.parametrize(
    "text",
    [
        "pim",
        "pim:gddr5",
        "pim:gddr6-aim,channels=0",
        "pim:gddr6-aim,channels=65",
        "pim:gddr6-aim,channels=x",
        "pim:gddr6-aim,refresh=maybe",
        "pim:gddr6-aim,row_buffers=2",
        "pim:gddr6-aim,rows=5",
        "pim:gddr6-aim/../x",
    ],
)
def test_a_text_that_names_no_device_is_rejected(text: str) -> None:
    with pytest.raises(InvalidDevice):
        PimBackend().device(DeviceText.parse(text))


def test_options_are_part_of_the_identity_and_of_the_text() -> None:
    _, device = resolve_device("pim:gddr6-aim,refresh=on,channels=8")
    assert str(device) == "pim:gddr6-aim,channels=8,refresh=on"
    assert resolve_device(str(device))[1] == device
    assert device.key != resolve_device("pim:gddr6-aim,channels=8")[1].key


@pytest.mark.parametrize(
    ("workload", "device", "reason"),
    [
        ("matmul m=1 n=64 k=64 act=f32 weight=f32", "pim:gddr6-aim", "bf16 or f16"),
        ("matmul m=1 n=64 k=64 act=bf16 weight=u3:32", "pim:gddr6-aim", "u8 or u4"),
        ("matmul m=1 n=64 k=64 act=bf16 weight=mxint8", "pim:gddr6-aim", "scales are f16 or f32"),
        ("matmul m=1 n=64 k=64 act=f16 weight=u4:32", "pim:hbm-pim", "16-bit"),
        ("matmul m=1 n=900000 k=65536 act=bf16 weight=bf16", "pim:gddr6-aim,channels=1", "do not fit"),
        ("attention batch=1 heads=1 q=64 kv=64 dim=64 act=bf16 kvcache=bf16", "pim:gddr6-aim", "decoding"),
        ("attention heads=1 q=1 kv=64 dim=64 act=f16 kvcache=f16", "pim:gddr6-aim", "activations of bf16,"),
        ("attention heads=1 q=1 kv=64 dim=64 act=f32 kvcache=f32", "pim:hbm-pim", "f16 or bf16"),
        ("attention heads=1 q=1 kv=64 dim=64 act=bf16 kvcache=u8:64/f32", "pim:hbm-pim", "caches of the same"),
        ("attention batch=9999 heads=64 q=1 kv=9999 dim=64 act=f16 kvcache=f16", "pim:hbm-pim", "cache does not fit"),
        ("rmsnorm rows=8 cols=64 act=f32", "pim:gddr6-aim", "pim backend maps"),
    ],
)
def test_what_cannot_be_mapped_is_said_with_the_reason(workload: str, device: str, reason: str) -> None:
    backend, resolved = resolve_device(device)
    support = backend.supports(Workload.parse(workload), resolved)
    assert not support
    assert reason in support.reason
    with pytest.raises(Unsupported, match=reason):
        backend.simulate(Workload.parse(workload), resolved, {})


@pytest.mark.parametrize(
    "schedule", [{"dataflow": "weight_stationary"}, {"tile": 4}, {"chunk": 64, "interleave": 2}, {"split_k": True}]
)
def test_a_schedule_outside_the_space_is_rejected(schedule: dict[str, int | str | bool]) -> None:
    backend, device = resolve_device("pim:gddr6-aim")
    with pytest.raises(InvalidArgument):
        backend.simulate(GEMV, device, schedule)
