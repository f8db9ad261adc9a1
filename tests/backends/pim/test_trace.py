"""Command traces: written, read back, and the AiM simulator's own form."""

from __future__ import annotations

import numpy as np
import pytest

from fettle.backends.pim.device import Hardware
from fettle.backends.pim.dram import DramMachine
from fettle.backends.pim.trace import read_trace, write_trace
from fettle.backends.registry import resolve_device
from fettle.graph.errors import InvalidArgument
from fettle.graph.workload import Workload

GEMV = Workload.parse("matmul m=2 n=100 k=600 act=bf16 weight=bf16")
DECODE = Workload.parse("attention heads=4 kv_heads=2 q=1 kv=100 dim=64 act=bf16")


@pytest.mark.parametrize("workload", [GEMV, DECODE], ids=["gemv", "decode"])
@pytest.mark.parametrize("text", ["pim:gddr6-aim,channels=3", "pim:hbm-pim,channels=2,refresh=on", "pim:neupims"])
def test_a_written_trace_reads_back_to_the_same_program_and_time(text: str, workload: Workload) -> None:
    backend, device = resolve_device(text)
    result = backend.simulate(workload, device, {}, trace=True)
    again = backend.simulate_trace(device, result.trace)
    assert (again.cycles, again.commands) == (result.cycles, result.commands)
    program = DramMachine().kernel(workload, device, result.schedule).mapped.program
    read = read_trace(result.trace, Hardware.of(device))
    assert [read.names[i] for i in read.operations] == [program.names[i] for i in program.operations]
    for name in ("banks", "rows", "columns", "counts", "holds", "channels"):
        assert np.array_equal(getattr(read, name), getattr(program, name)), name
    assert write_trace(read, Hardware.of(device).organisation.channels) == result.trace


def test_a_trace_that_never_uses_all_channels_names_those_it_uses() -> None:
    lines = ("MACAB row=3 channels=0x1", "MACAB row=4 channels=0x3")
    hardware = Hardware.of(resolve_device("pim:gddr6-aim,channels=4")[1])
    assert write_trace(read_trace(lines, hardware), 4) == lines


def test_a_trace_may_hold_the_last_of_64_banks() -> None:
    hardware = Hardware.of(resolve_device("pim:upmem,channels=1")[1])
    lines = ("RD bank=63 row=0 hold=0x8000000000000000", "RD bank=0 row=0 hold=0x1")
    program = read_trace(lines, hardware)
    assert program.holds.view(np.uint64).tolist() == [1 << 63, 1]
    assert write_trace(program, 1) == lines
    with pytest.raises(InvalidArgument, match="not a whole number"):
        read_trace(["RD bank=63 row=0 hold=0x10000000000000000"], hardware)


def test_instructions_of_the_aim_simulator_are_read_with_blanks_or_commas() -> None:
    backend, device = resolve_device("pim:gddr6-aim")
    blanks = ["# a comment", "", "W CFR 0 1", "AiM WR_GB 64 0 0xffffffff", "AiM MAC_ABK 64 0xffffffff 3", "AiM EOC"]
    commas = [line.replace(" ", ",") for line in blanks[1:]]
    ours = ["HOST", "WRGB count=64", "MACAB row=3 count=64"]
    cycles = {backend.simulate_trace(device, lines).cycles for lines in (blanks, commas, ours)}
    assert len(cycles) == 1


def test_what_follows_the_end_of_compute_is_ignored() -> None:
    backend, device = resolve_device("pim:gddr6-aim")
    lines = ["AiM MAC_ABK 1 0x1 0", "AiM EOC", "nonsense"]
    assert backend.simulate_trace(device, lines).cycles == backend.simulate_trace(device, lines[:1]).cycles


def test_sync_waits_for_every_channel() -> None:
    backend, device = resolve_device("pim:gddr6-aim")
    together = ["AiM MAC_ABK 32 0x1 0", "AiM MAC_ABK 32 0x2 0"]
    apart = [together[0], "AiM SYNC", together[1]]
    assert backend.simulate_trace(device, apart).cycles > 1.8 * backend.simulate_trace(device, together).cycles


@pytest.mark.parametrize(
    "line",
    [
        "MACAB",
        "MACAB row=99999",
        "MACAB row=1 count=0",
        "MACAB row=1 column=60 count=5",
        "AiM MAC_ABK 65 0xffffffff 1",
        "WRGB column=1 count=64",
        "MACAB row=1 row=2",
        "MACAB row=-1",
        "RD row=1",
        "RD row=1 bank=16",
        "MACAB row=1 channels=0x1ffffffff",
        "MACAB row=1 channels=0",
        "FLY row=1",
        "AiM",
        "AiM MAC_ABK 64",
        "AiM DANCE 1 2 3",
        "W MEM 1 2",
        "W CPU 1",
        "MACAB row=1e3",
        "MACAB row=99999999999999999999999",
        "HOST count=1000000000000",
        "HOST count=0",
        "HOST hold=0xffffffffffffffff",
        "SYNC count=2",
        "DONE channels=0x1",
        "PRE bank=0 count=2",
        "ACT bank=0 row=0 count=16777216",
        "REF count=16777216",
        "MOD column=1",
        "RDMAC count=65",
        "RD row=1 bank=0 channels=0xffffffffffffffffffffffff",
        "W MEM 32 0 0",
        "R MEM 99 0 0",
        "\0\0\0",
    ],
)
def test_a_line_that_means_nothing_is_rejected_with_its_number(line: str) -> None:
    backend, device = resolve_device("pim:gddr6-aim")
    with pytest.raises(InvalidArgument, match="line 2 of the trace"):
        backend.simulate_trace(device, ["HOST", line])


def test_an_empty_trace_is_rejected() -> None:
    backend, device = resolve_device("pim:gddr6-aim")
    with pytest.raises(InvalidArgument, match="no command"):
        backend.simulate_trace(device, ["# nothing"])


@pytest.mark.parametrize("preset", ["gddr6-aim", "hbm-pim", "neupims"])
def test_refreshes_of_hours_of_waiting_are_counted_and_not_stepped_through(preset: str) -> None:
    """Rows open or closed, requests reordered or not: the last refresh comes before the next request, none is left out,
    and what follows the wait takes as long as after a short one."""
    backend, device = resolve_device(f"pim:{preset},channels=1,refresh=on")
    hardware = Hardware.of(device)
    interval, first = hardware.refresh, hardware.first_refresh
    for access in ("RD bank=0 row=0", "RD bank=0 row=0 hold=0x1", "WR bank=1 row=5"):
        short, long = (
            backend.simulate_trace(device, [access, f"HOST count={wait}", access])
            for wait in (2 * interval, 200_002 * interval)
        )
        assert long.cycles - short.cycles == 200_000 * interval
        more = dict(long.commands)["REF"] - dict(short.commands)["REF"]
        assert more == 200_000
        assert dict(short.commands)["REF"] == 1 + (short.cycles - first) // interval


def test_a_line_of_the_host_may_wait_longer_than_a_second() -> None:
    backend, device = resolve_device("pim:hbm-pim,channels=1,refresh=on")
    lines = ["RD bank=0 row=0", "HOST count=2147483647"] * 50 + ["RD bank=0 row=0"]
    assert dict(backend.simulate_trace(device, lines).commands)["REF"] == pytest.approx(50 * 2147483647 / 3900, abs=2)


def test_a_precharge_of_one_bank_is_not_taken_for_that_of_another() -> None:
    """The controller closes a row of its own accord: the precharge that was asked for still has to come."""
    backend, device = resolve_device("pim:hbm-pim,channels=1")
    lines = ["RD bank=0 row=0 hold=0x3", "RD bank=1 row=0 hold=0x3", "PRE bank=1 hold=0x2"]
    assert dict(backend.simulate_trace(device, lines).commands)["PRE"] == 2
