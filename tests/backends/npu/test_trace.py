"""Command traces of the systolic device: read back they take the same time; their transfers are all the traffic."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fettle.backends.api import Schedule, Simulation
from fettle.backends.npu.systolic import timeline
from fettle.backends.npu.systolic.demands import Demands
from fettle.backends.npu.systolic.hardware import Systolic
from fettle.backends.registry import resolve_device
from fettle.backends.spaces import enumerate_space
from fettle.graph.errors import InvalidArgument
from fettle.graph.workload import Workload

SMALL = "npu:systolic,rows=16,cols=8,sram=16,bandwidth=12"


def traced(text: str, device: str, number: int) -> tuple[Schedule, Simulation, Simulation]:
    """A mapping, its simulation, and that of its trace."""
    backend, resolved = resolve_device(device)
    workload = Workload.parse(text)
    points = enumerate_space(backend.space(workload, resolved))
    schedule = points[number % points.size]
    result = backend.simulate(workload, resolved, schedule.as_dict(), trace=True)
    return schedule, result, backend.simulate_trace(resolved, result.trace)


@pytest.mark.parametrize(
    ("text", "device"),
    [
        ("matmul m=50 n=37 k=100 act=i8 weight=i8", SMALL),
        ("matmul m=50 n=37 k=100 act=i8 weight=i8", f"{SMALL},tier=4,tier_bandwidth=100"),
        ("matmul batch=2 m=20 n=37 k=40 act=i8 rhs=i8", SMALL),
        ("matmul m=20 n=70 k=100 act=f32 weight=u3:32:zp", "npu:systolic,pe=lut,units=2,vector=3"),
        ("attention heads=4 kv_heads=2 q=40 kv=100 dim=32 act=f32 causal=true", SMALL),
        ("softmax rows=37 cols=50 act=f32", SMALL),
    ],
)
def test_a_trace_read_back_takes_the_same(text: str, device: str) -> None:
    for number in np.random.default_rng(0).integers(0, 1 << 30, 8).tolist():
        schedule, result, again = traced(text, device, number)
        assert (again.cycles, again.dram_bytes) == (result.cycles, result.dram_bytes), schedule
        assert again.commands == result.commands
        for name, count in again.commands:
            assert count == sum(line.startswith(name.upper()) for line in result.trace)


def moved(m: int, n: int, k: int, schedule: Schedule) -> Counter[str]:
    """Bytes that move when loops over tiles are walked and each operand's last tile is kept: i8 operands, sums and
    results of four bytes, sums that are not finished when another output's turn comes leave and come back."""
    counted: Counter[str] = Counter()
    held: dict[str, tuple[int, int]] = {}
    done: Counter[tuple[int, int]] = Counter()
    extents = {"m": m, "n": n, "k": k}
    tiles = {d: int(schedule[f"tile_{d}"]) for d in "mnk"}
    loops = [range(0, extents[d], tiles[d]) for d in schedule["order"]]
    size = {d: (lambda at, d=d: min(tiles[d], extents[d] - at)) for d in "mnk"}
    for point in itertools.product(*loops):
        at = dict(zip(schedule["order"], point, strict=True))
        for name, (one, two) in {"inputs": ("m", "k"), "weights": ("n", "k")}.items():
            if held.get(name) != (at[one], at[two]):
                held[name] = (at[one], at[two])
                counted[name] += size[one](at[one]) * size[two](at[two])
        output = (at["m"], at["n"])
        outputs = 4 * size["m"](at["m"]) * size["n"](at["n"])
        if held.get("sums") != output:
            counted["sums_in"] += outputs * (done[output] > 0)
            held["sums"] = output
        done[output] += size["k"](at["k"])
        if done[output] == k:
            counted["results"] += outputs
    counted["sums_out"] = counted["sums_in"]  # what comes back has left
    return counted


@given(*[st.integers(1, 60)] * 3, st.integers(0, 1 << 30))
@settings(max_examples=60, deadline=None)
def test_transfers_of_a_trace_are_what_its_loops_move(m: int, n: int, k: int, number: int) -> None:
    schedule, result, _ = traced(f"matmul m={m} n={n} k={k} act=i8 weight=i8", SMALL, number)
    commanded: Counter[str] = Counter()
    for line in result.trace:
        words = line.split()
        if words[0] in ("LOAD", "STORE"):
            commanded[words[1]] += int(words[2].removeprefix("bytes="))
    expected = moved(m, n, k, schedule)
    assert +commanded == +expected
    assert result.dram_bytes == expected.total()
    counters = dict(result.counters)
    assert all(counters[f"dram_{name}"] == count for name, count in expected.items())


@given(st.lists(st.integers(0, 1 << 20), min_size=5, max_size=5), st.integers(1, 64), st.integers(1, 500))
def test_transfers_end_in_the_cycle_of_their_last_byte(moved: list[int], sharers: int, bandwidth: int) -> None:
    demands = Demands.of(np.array([moved], np.int64), np.zeros(1, np.int64))
    (found,) = demands.durations(Systolic(bandwidth=bandwidth), sharers)
    loads, stores = sum(moved[:3]) * sharers, sum(moved[3:]) * sharers
    assert found[timeline.LOAD_TIME] == -(-loads // bandwidth)
    assert found[timeline.STORE_TIME] == -(-stores // bandwidth)


def test_a_trace_by_hand() -> None:
    """64 bytes a cycle, 100 cycles until they arrive; the vector unit has 128 lanes."""
    backend, device = resolve_device("npu:systolic")
    lines = [
        "BUFFERS 1  # the second tile is loaded when the first is done",
        "LOAD inputs bytes=64",
        "LOAD weights bytes=65",
        "COMPUTE cycles=20",
        "",
        "VECTOR operations=129",
        "LOAD inputs bytes=64 from=dram",
        "COMPUTE cycles=30",
        "STORE results bytes=640",
    ]
    first = 3 + 100 + 20
    second = max(first + 1 + 100, first + 2) + 30 + 10
    result = backend.simulate_trace(device, lines)
    assert (result.cycles, result.dram_bytes, result.energy) == (second, 64 + 65 + 64 + 640, None)
    assert dict(result.commands) == {"load": 3, "compute": 2, "store": 1}
    assert dict(result.counters)["compute_cycles"] == 49
    assert backend.simulate_trace(device, [*lines[1:4], "VECTOR operations=1280"]).cycles == first + 10
    assert dict(backend.simulate_trace(device, ["COMPUTE cycles=0"]).counters)["compute_cycles"] == 0


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "before a tile is computed"),
        (["LOAD inputs bytes=1"], "before a tile is computed"),
        (["LOAD inputs bytes=1", "STORE results bytes=1"], "is computed before"),
        (["STORE results bytes=1"], "is computed before"),
        (["MULTIPLY"], "line 1.*unknown command"),
        (["# tile", "LOAD results bytes=1"], r"line 2.*inputs\|weights\|sums_in"),
        (["LOAD inputs bytes=1 to=tier"], r"from=dram\|tier"),
        (["LOAD inputs bytes=-1"], "bytes=N"),
        (["LOAD inputs"], "expected LOAD"),
        (["COMPUTE cycles=1", "BUFFERS 2"], "before the first tile"),
        (["BUFFERS 3"], "1 or 2"),
        (["COMPUTE cycles=1 bytes=2"], "cycles=N"),
        (["COMPUTE cycles=9999999999999"], "12 digits"),
    ],
)
def test_a_malformed_trace_is_refused(lines: list[str], message: str) -> None:
    backend, device = resolve_device("npu:systolic")
    with pytest.raises(InvalidArgument, match=message):
        backend.simulate_trace(device, lines)


@pytest.mark.parametrize(
    "text",
    [
        "matmul m=50 n=37 k=100 act=i8 weight=i8",
        "matmul m=3 n=2 k=5 act=i8 weight=i8",  # fewer shards than arrays
        "matmul batch=2 m=20 n=37 k=40 act=i8 rhs=i8",
        "attention heads=4 kv_heads=2 q=40 kv=100 dim=32 act=f32 causal=true",
        "softmax rows=37 cols=50 act=f32",
    ],
)
@pytest.mark.parametrize("mesh", ["mesh=2x3,link=7", "mesh=1x2,tier=4"])
def test_a_trace_of_a_mesh_read_back_takes_the_same(text: str, mesh: str) -> None:
    for number in np.random.default_rng(0).integers(0, 1 << 30, 8).tolist():
        schedule, result, again = traced(text, f"{SMALL},{mesh}", number)
        assert again.cycles == result.cycles, schedule
        assert sum(line.startswith("MESH") for line in result.trace) <= 1


def test_arrays_of_a_mesh_share_the_bandwidth_by_hand() -> None:
    """64 bytes a cycle: 4 arrays load 640 bytes of inputs each, or one loads them and passes them on at 16 a cycle over
    2 links; then 100 cycles until they arrive."""
    backend, device = resolve_device("npu:systolic,mesh=2x2,link=16")
    tile = ["LOAD inputs bytes=640", "COMPUTE cycles=20"]

    def cycles(*header: str) -> int:
        return backend.simulate_trace(device, [*header, *tile]).cycles

    assert cycles() == 10 + 100 + 20
    assert cycles("MESH arrays=4") == 40 + 100 + 20
    assert cycles("MESH arrays=4 split=m") == 40 + 100 + 20 + 2
    assert cycles("MESH arrays=4 split=n") == 640 // 16 + 100 + 20 + 2
    assert cycles("MESH arrays=2 split=m") == 20 + 100 + 20 + 2


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["MESH arrays=5"], "2 to 4"),
        (["MESH arrays=1"], "2 to 4"),
        (["MESH"], "arrays=N"),
        (["MESH arrays=4 split=b"], "split=m"),
        (["MESH arrays=4 split=mn"], "split=m"),
        (["MESH arrays=4 split=m split=n"], "split=m"),
        (["MESH arrays=4", "MESH arrays=4"], "line 2.*once"),
        (["COMPUTE cycles=1", "MESH arrays=4"], "line 2.*before"),
    ],
)
def test_a_malformed_mesh_is_refused(lines: list[str], message: str) -> None:
    backend, device = resolve_device("npu:systolic,mesh=2x2")
    with pytest.raises(InvalidArgument, match=message):
        backend.simulate_trace(device, lines)
