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


@pytest.mark.parametrize("text", ["pim:gddr6-aim,channels=3", "pim:hbm-pim,channels=2,refresh=on", "pim:neupims"])
def test_a_written_trace_reads_back_to_the_same_program_and_time(text: str) -> None:
    backend, device = resolve_device(text)
    result = backend.simulate(GEMV, device, {}, trace=True)
    again = backend.simulate_trace(device, result.trace)
    assert (again.cycles, again.commands) == (result.cycles, result.commands)
    program = DramMachine().kernel(GEMV, device, result.schedule).mapped.program
    read = read_trace(result.trace, Hardware.of(device))
    assert [read.names[i] for i in read.operations] == [program.names[i] for i in program.operations]
    for name in ("rows", "columns", "counts", "channels"):
        assert np.array_equal(getattr(read, name), getattr(program, name)), name
    assert write_trace(read, Hardware.of(device).organisation.channels) == result.trace


def test_a_trace_that_never_uses_all_channels_names_those_it_uses() -> None:
    lines = ("MACAB row=3 channels=0x1", "MACAB row=4 channels=0x3")
    hardware = Hardware.of(resolve_device("pim:gddr6-aim,channels=4")[1])
    assert write_trace(read_trace(lines, hardware), 4) == lines


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
