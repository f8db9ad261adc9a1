"""Totals of the open simulators: AiM on Ramulator 2 (exactly, refresh off), PIMSimulator on DRAMSim2 (within 15 %)."""

from __future__ import annotations

import pytest

from fettle.backends.pim.backend import PimBackend
from fettle.backends.registry import resolve_device
from fettle.graph.workload import Workload

ALL = "0xffffffff"
GEMV = Workload.parse("matmul m=1 n=4096 k=4096 act=bf16 weight=bf16")


def aim(*lines: str) -> int:
    """Cycles of a trace in the AiM simulator's own form."""
    _, device = resolve_device("pim:gddr6-aim")
    return PimBackend().simulate_trace(device, [*lines, "AiM EOC"]).cycles


def gemv(device: str, **schedule: str) -> int:
    backend, resolved = resolve_device(device)
    return backend.simulate(GEMV, resolved, schedule).cycles


@pytest.mark.parametrize(
    ("columns", "rows", "cycles"), [(1, 1, 60), (1, 10, 960), (64, 1, 186), (64, 10, 2220)], ids=str
)
def test_all_bank_mac_over_columns_and_rows(columns: int, rows: int, cycles: int) -> None:
    """The traces begin by writing the register that says where units take their inputs from: one cycle."""
    assert aim("W CFR 0 1", *(f"AiM MAC_ABK {columns} {ALL} {row}" for row in range(rows))) == cycles


def test_the_same_open_row_twenty_times() -> None:
    assert aim(*[f"AiM MAC_ABK 64 {ALL} 0"] * 20) == 2617


def test_register_commands_wait_for_the_mode_to_change() -> None:
    assert aim(f"AiM WR_GB 1 0 {ALL}") == 37
    assert aim(f"AiM WR_GB 64 0 {ALL}") == 163
    assert aim(f"AiM WR_BIAS 0 {ALL}") == 37
    assert aim(f"AiM RD_MAC 0 {ALL}") == 37


def test_bias_mac_and_read() -> None:
    assert aim(f"AiM WR_BIAS 0 {ALL}", f"AiM MAC_ABK 64 {ALL} 0", f"AiM RD_MAC 0 {ALL}") == 286


def test_aim_gemv_keeping_inputs_or_outputs() -> None:
    assert gemv("pim:gddr6-aim", dataflow="input_stationary") == pytest.approx(9665, rel=0.05)
    assert gemv("pim:gddr6-aim", dataflow="output_stationary") == pytest.approx(13057, rel=0.05)
    assert gemv("pim:gddr6-aim") == gemv("pim:gddr6-aim", dataflow="input_stationary")


@pytest.mark.parametrize("refresh", ["off", "on"])
def test_hbm_pim_gemv_with_and_without_units(refresh: str) -> None:
    """The reference refreshes; ours does where it is told to."""
    device = f"pim:hbm-pim,refresh={refresh}"
    assert gemv(device) == pytest.approx(13166, rel=0.15)
    assert gemv(device, dataflow="host") == pytest.approx(36082, rel=0.15)


def test_hbm_pim_gemv_with_refresh_is_within_one_percent() -> None:
    assert gemv("pim:hbm-pim,refresh=on") == pytest.approx(13166, rel=0.01)


def test_channels_that_do_different_things_do_not_wait_for_each_other() -> None:
    """As long as no instruction overflows a queue: the host sends in order."""
    alone = aim("AiM MAC_ABK 32 0x1 0")
    beside = aim("AiM MAC_ABK 32 0x1 0", "AiM MAC_ABK 8 0x2 5")
    assert alone <= beside <= alone + 1


def test_refresh_costs_time_and_shows_in_the_counts() -> None:
    backend, device = resolve_device("pim:gddr6-aim,refresh=on")
    with_refresh = backend.simulate(GEMV, device, {})
    assert with_refresh.cycles > gemv("pim:gddr6-aim")
    assert dict(with_refresh.commands)["REF"] == 32 * (with_refresh.cycles // 3333)
