"""Command traces of the SRAM device: what is written is timed alike, and hostile lines are refused by their number."""

from __future__ import annotations

import attrs
import numpy as np
import pytest

from fettle.backends.api import Schedule
from fettle.backends.registry import resolve_device
from fettle.backends.spaces import enumerate_space
from fettle.graph.errors import InvalidArgument
from fettle.graph.workload import Workload

DEVICE = "pim:sram-lut,arrays=64"
HEAD = "TABLES weight=4 inputs=4 group=128 batch=1 arrays=16"
END = "STORE results bytes=8"


@pytest.mark.parametrize(
    "text",
    [
        "matmul m=1 n=64 k=1024 act=bf16 weight=u4:64",
        "matmul m=5 n=50 k=301 act=f32 weight=u8:row",
        "matmul m=3 n=70000 k=64 act=bf16 weight=u2:32:zp",  # several outputs a bitline
    ],
)
def test_a_written_trace_is_timed_as_the_mapping_it_is_of(text: str) -> None:
    backend, device = resolve_device(DEVICE)
    workload = Workload.parse(text)
    points = enumerate_space(backend.space(workload, device))
    for i in points.sample(np.random.default_rng(0), 12):
        written = backend.simulate(workload, device, points[i].as_dict(), trace=True)
        read = backend.simulate_trace(device, written.trace)
        assert read == attrs.evolve(written, schedule=Schedule(), trace=())


def test_a_trace_says_how_often_each_step_is_done() -> None:
    backend, device = resolve_device(DEVICE)
    workload = Workload.parse("matmul m=1 n=64 k=256 act=bf16 weight=u4:128")
    lines = backend.simulate(workload, device, {}, trace=True).trace
    assert lines[:4] == (
        "TABLES weight=4 inputs=4 group=128 batch=1 arrays=1",
        f"LOAD weights bytes={64 * 128 + 64 * 2 * 2}",
        "LOAD x bytes=512",
        "FEED count=256",
    )
    assert lines[4] == "BUILD count=32  # batch 0 group 0"
    assert sum(line.startswith("BUILD") for line in lines) == 2
    assert lines[-4:] == ("CONVERT count=1", "SCALE count=1", "ACCUMULATE count=1", "STORE results bytes=128")


def test_cycles_of_a_trace_by_hand() -> None:
    """Additions of n bits take n + 1 cycles; slices work side by side and wait at SYNC."""
    backend, device = resolve_device(DEVICE)
    lines = [HEAD, "FEED count=64", "SLICE", "BUILD count=2", "SLICE", "ADD bit=3 count=7", "FETCH count=5", "SYNC"]
    result = backend.simulate_trace(device, [*lines, "ACCUMULATE count=2", "HOST count=64", END])
    build, add, fetch = 2 * 11 * 7, 7 * (19 - 3 + 1), 5 * 6
    host = 64 * (19 / 8 / 32 + 1 / 16 / 0.4)
    assert result.cycles == np.ceil(max(build, add + fetch) + 2 * 145 + 64 / 32 + host)
    assert dict(result.commands) == {"BUILD": 2, "ADD": 7, "FETCH": 5, "ACCUMULATE": 2, "HOST": 64}
    assert result.dram_bytes == 8


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "no command"),
        (["BUILD count=1"], "line 1 .*TABLES is the first"),
        ([HEAD, HEAD], "line 2 .*comes once"),
        (["TABLES weight=4 inputs=4"], "expected TABLES weight=N inputs=N group=N batch=N arrays=N"),
        (["TABLES weight=17 inputs=4 group=8 batch=1 arrays=1"], "weight=17 is beyond 16"),
        (["TABLES weight=4 inputs=60 group=8 batch=1 arrays=1"], "inputs=60 is beyond 8"),
        (["TABLES weight=4 inputs=4 group=8 batch=1 arrays=65"], "arrays=65 is beyond 64"),
        (["TABLES weight=4 inputs=4 group=8 batch=99 arrays=1"], "wordlines of 256"),
        (["TABLES weight=4 inputs=4 group=0 batch=1 arrays=1"], "expected group=N"),
        (["TABLES weight=-4 inputs=4 group=8 batch=1 arrays=1"], "expected weight=N"),
        ([HEAD, "MACAB row=1"], "line 2 .*unknown command; known.*ADD bit=7"),
        ([HEAD, "ADD bit=8 count=1"], "unknown command"),
        ([HEAD, "ADD bit=3"], "unknown command"),
        ([HEAD, "", "# nothing", "ADD bit=3 cou"], "line 4 .*expected count=N"),
        ([HEAD, "BUILD count=0"], "from 1"),
        ([HEAD, "BUILD count=-1"], "from 1"),
        ([HEAD, "BUILD count=1e9"], "from 1"),
        ([HEAD, "BUILD count=1000000000000000"], "at most 12 digits"),
        ([HEAD, "BUILD count=٣"], "expected count=N"),
        ([HEAD, "BUILD"], "unknown command"),
        ([HEAD, "LOAD"], r"expected LOAD weights\|x bytes=N"),
        ([HEAD, "LOAD results bytes=4"], r"expected LOAD weights\|x bytes=N"),
        ([HEAD, "FEED"], "expected count=N"),
        ([HEAD, "SLICE 3"], "SLICE stands alone"),
        ([HEAD, "SLICE", "SLICE"], "line 3 .*no step"),
        ([HEAD, "BUILD count=1", "SYNC", "SLICE"], "SYNC ends the slices"),
        ([HEAD, "BUILD count=1"], "ends before STORE"),
        ([HEAD, "BUILD count=1", END, "BUILD count=1"], "nothing comes after STORE"),
        ([HEAD, END], "a slice has no step"),
        ([HEAD, "BUILD count=1", "FETCH count=2", "ADD bit=0 count=1", END], "more entries are fetched than added"),
        (["TABLES weight=4 inputs=4 group=8 batch=1 arrays=1", *["SLICE", "BUILD count=1"] * 257], "line 514 .*256"),
    ],
)
def test_hostile_traces_are_refused_with_their_line(lines: list[str], message: str) -> None:
    backend, device = resolve_device(DEVICE)
    with pytest.raises(InvalidArgument, match=message):
        backend.simulate_trace(device, lines)
