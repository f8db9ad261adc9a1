"""Devices with other numbers of banks, lanes and buffer bytes than their preset's."""

from __future__ import annotations

import numpy as np
import pytest

from fettle.backends.pim.device import Hardware
from fettle.backends.pim.preset import read_preset
from fettle.backends.pim.scaling import scaled
from fettle.backends.registry import resolve_device
from fettle.graph.errors import InvalidDevice
from fettle.graph.workload import Workload
from tests.backends.pim import mappings

AIM = "pim:gddr6-aim"
BIG = Workload.parse("matmul m=1 n=16384 k=4096 act=bf16 weight=bf16")


def cycles(options: str) -> int:
    backend, device = resolve_device(f"{AIM},{options}")
    return backend.simulate(BIG, device, {}).cycles


def test_the_presets_own_sizes_are_the_preset() -> None:
    assert resolve_device(f"{AIM},banks=16,lanes=16,buffer=2048")[1] == resolve_device(AIM)[1]
    preset = read_preset("gddr6-aim")
    assert preset.scaling is not None
    same = scaled(preset, preset.scaling, banks=16, lanes=16, buffer=2048)
    assert (same.organisation, same.timing) == (preset.organisation, preset.timing)
    for name, command in preset.commands.items():
        assert same.commands[name].energy_pj == pytest.approx(command.energy_pj)
        assert same.commands[name].bus_bytes == command.bus_bytes


def test_a_row_keeps_its_bytes_and_energy_follows_what_moves() -> None:
    hardware = Hardware.of(resolve_device(f"{AIM},banks=32,lanes=64,buffer=4096")[1])
    org, commands = hardware.organisation, hardware.preset.commands
    assert (org.bank_groups, org.units, org.columns, org.column_bytes, org.buffer_columns) == (8, 32, 16, 128, 32)
    assert hardware.bus_interval == 8  # 128 bytes over pins that carry 32 in 2 cycles
    assert commands["ACT"].energy_pj == 909
    assert commands["ACTAB"].energy_pj == 32 * 909
    assert commands["MACAB"].energy_pj == pytest.approx(32 * 4 * 411)
    assert commands["WRAB"].energy_pj == pytest.approx(4 * (1234 + 32 * 1.51 * 256), rel=0.01)
    assert (commands["WRGB"].bus_bytes, commands["RDMAC"].bus_bytes) == (128, 64)
    assert commands["MACAB"].reach == 32


@pytest.mark.parametrize(("few", "many"), [("channels=8", "channels=16"), ("channels=8,banks=8", "channels=8")])
def test_twice_the_channels_or_banks_halve_the_cycles_of_a_big_gemv(few: str, many: str) -> None:
    assert cycles(many) == pytest.approx(cycles(few) / 2, rel=0.1)


def test_wider_units_are_faster_but_rows_still_take_their_time() -> None:
    narrow, own, wide = (cycles(f"channels=8,lanes={lanes}") for lanes in (8, 16, 64))
    assert narrow > own > wide > own / 4


@pytest.mark.parametrize(
    "sizes", ["banks=4,lanes=64,buffer=1024", "banks=32,lanes=8,buffer=8192", "banks=8,buffer=256"]
)
@pytest.mark.parametrize("weight", ["bf16", "u4:32:zp"])
def test_mappings_are_right_and_violate_nothing(sizes: str, weight: str) -> None:
    _, device = resolve_device(f"{AIM},channels=2,refresh=on,{sizes}")
    workload = Workload.parse(f"matmul m=2 n=150 k=416 act=bf16 weight={weight}")
    assert mappings.check(np.random.default_rng(0), device, workload, 2) == (2, [])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"{AIM},banks=12", "power of two"),
        (f"{AIM},banks=2", "between 4 and 32"),
        (f"{AIM},banks=64", "between 4 and 32"),
        (f"{AIM},lanes=16.0", "whole number"),
        (f"{AIM},lanes=-8", "whole number"),
        (f"{AIM},lanes=24", "power of two"),
        (f"{AIM},buffer=3000", "power of two"),
        (f"{AIM},buffer=512,lanes=64", "fewer than 8 columns"),
        ("pim:hbm-pim,banks=8", "no option 'banks'"),
        ("pim:upmem,lanes=8", "no option 'lanes'"),
    ],
)
def test_sizes_that_make_no_device_are_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidDevice, match=reason):
        resolve_device(text)
