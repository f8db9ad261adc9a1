"""Mappings compute what the reference says, and their commands keep every timing, whatever the mapping."""

from __future__ import annotations

import attrs
import numpy as np
import pytest

from fettle.backends.api import Schedule
from fettle.backends.pim.backend import PimBackend
from fettle.backends.pim.device import Hardware
from fettle.backends.pim.dram import DramMachine
from fettle.backends.pim.engine import Issued
from fettle.backends.pim.program import SYNC, Program
from fettle.backends.pim.report import time_program
from fettle.backends.registry import resolve_device
from fettle.backends.spaces import enumerate_space
from fettle.graph.workload import Workload
from tests.backends.pim import mappings
from tests.backends.pim.checker import violations

SMALL = Workload.parse("matmul m=1 n=70 k=600 act=bf16 weight=bf16")


@pytest.mark.parametrize("seed", range(30))
def test_random_mappings_are_right_and_violate_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    made, wrong = mappings.check(rng, *mappings.random_case(rng), 6)
    assert made > 0
    assert wrong == []


@pytest.mark.parametrize("preset", mappings.PRESETS)
def test_every_mapping_of_a_small_product_is_right(preset: str) -> None:
    backend, device = resolve_device(f"pim:{preset},channels=2,refresh=on")
    points = enumerate_space(backend.space(SMALL, device))
    numbers = points.sample(np.random.default_rng(1), 20)
    with mappings.make_executor(backend, device).open(SMALL, mappings.POLICY, 0) as session:
        for i in numbers:
            assert mappings.check_one(session, device, SMALL, points[i]) == []


def mapped(preset: str, **schedule: str) -> tuple[Program, Hardware]:
    backend, device = resolve_device(f"pim:{preset},channels=1")
    assert isinstance(backend, PimBackend)
    complete = Schedule.of(**{**backend.default(SMALL, device).as_dict(), **schedule})
    return DramMachine().kernel(SMALL, device, complete).mapped.program, Hardware.of(device)


def issued(program: Program, hardware: Hardware) -> Issued:
    timing = time_program(program, hardware, record=True)
    assert timing.issued is not None
    return timing.issued


@pytest.mark.parametrize("preset", mappings.PRESETS)
@pytest.mark.parametrize("dataflow", ["input_stationary", "output_stationary", "host"])
def test_commands_are_issued_as_early_as_the_timings_allow(preset: str, dataflow: str) -> None:
    """Moving any activate, column command or precharge that waited a cycle forward breaks a rule of the checker."""
    program, hardware = mapped(preset, dataflow=dataflow)
    run = issued(program, hardware)
    assert violations(run, hardware) == []
    waited = np.flatnonzero(np.diff(run.times) > 3) + 1
    assert waited.size
    caught = 0
    chosen = waited[:: max(1, len(waited) // 8)]
    for at in chosen:
        times = run.times.copy()
        times[at] -= 1
        caught += bool(violations(attrs.evolve(run, times=times), hardware))
    after_a_wait = sum(program.names[i] == SYNC for i in program.operations)
    assert caught >= 0.8 * len(chosen) - after_a_wait  # the others wait for the host


def test_a_column_of_the_wrong_row_is_caught() -> None:
    program, hardware = mapped("gddr6-aim")
    run = issued(program, hardware)
    rows = run.rows.copy()
    rows[np.flatnonzero(run.commands == hardware.tables.number("MACAB"))[3]] += 1
    assert any("meets row" in wrong for wrong in violations(attrs.evolve(run, rows=rows), hardware))


def test_a_wrong_address_gives_a_wrong_result() -> None:
    """The result comes from the commands: computing at another column is noticed."""
    backend, device = resolve_device("pim:gddr6-aim,channels=1")
    kernel = DramMachine().kernel(SMALL, device, backend.default(SMALL, device))
    one = kernel.mapped
    with mappings.make_executor(backend, device).open(SMALL, mappings.POLICY, 0) as session:
        x, weight = session._operands  # type: ignore[attr-defined]
    stored = kernel.pack([weight])
    right = one.compute([x], stored)
    macs = np.flatnonzero(one.program.operations == one.program.names.index("MACAB"))
    one.program.rows[macs[0]], one.program.rows[macs[-1]] = one.program.rows[macs[-1]], one.program.rows[macs[0]]
    assert not np.allclose(one.compute([x], stored), right, atol=0.05)
    one.program.rows[macs[0]], one.program.rows[macs[-1]] = one.program.rows[macs[-1]], one.program.rows[macs[0]]


def test_two_row_buffers_keep_the_rows_of_host_and_units_apart() -> None:
    """The same mixture of reads and multiply-accumulates: NeuPIMs' second row buffer saves opening rows again."""
    lines = []
    for i in range(40):
        lines += [f"MACAB row=1 column={i % 32} channels=0x1", f"RD bank={i % 4} row=2 column={i // 4} channels=0x1"]
    backend, dual = resolve_device("pim:neupims")
    _, single = resolve_device("pim:neupims,row_buffers=1")
    fast, slow = backend.simulate_trace(dual, lines), backend.simulate_trace(single, lines)
    assert slow.cycles > 4 * fast.cycles
    assert dict(fast.commands)["ACTAB"] == 1 < dict(slow.commands)["ACTAB"]


def test_a_refresh_closes_the_rows_in_both_row_buffers() -> None:
    backend, device = resolve_device("pim:neupims,refresh=on")
    lines = ["RD bank=3 row=2 channels=0x1", "MACAB row=1 channels=0x1", "HOST count=4000", "MACAB row=1 channels=0x1"]
    commands = dict(backend.simulate_trace(device, lines).commands)
    assert (commands["PRE"], commands["PREAB"], commands["REF"]) == (1, 1, 1)
    assert commands["ACTAB"] == 2
