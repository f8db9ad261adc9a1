"""The SRAM device: results, the cycle model against arithmetic by hand, pattern reuse counted from data."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fettle.backends.api import Candidate, MeasurePolicy, Schedule
from fettle.backends.host.executor import make_executor
from fettle.backends.pim.lut.mapping import LutKernel
from fettle.backends.pim.lut.model import Widths, count, indices, read_sram
from fettle.backends.registry import resolve_device
from fettle.backends.spaces import enumerate_space
from fettle.graph.errors import InvalidArgument, InvalidDevice, Unsupported
from fettle.graph.workload import Workload

GEMV = Workload.parse("matmul m=1 n=64 k=256 act=f32 weight=u4:64")


@pytest.mark.parametrize(
    ("weight", "k"),
    [("u4:64", 300), ("u8:row", 300), ("u2:32:zp", 300), ("u5:128/f32", 300), ("u4:row", 301), ("u4:128", 50)],
)
@pytest.mark.parametrize("m", [1, 3])
def test_every_mapping_gives_the_reference_result(weight: str, k: int, m: int) -> None:
    """Also where a scale group does not fill its last table."""
    backend, device = resolve_device("pim:sram-lut,arrays=4")
    workload = Workload.parse(f"matmul m={m} n=50 k={k} act=bf16 weight={weight}")
    points = enumerate_space(backend.space(workload, device))
    with make_executor(backend, device).open(workload, MeasurePolicy(samples=1), 0) as session:
        for i in points.sample(np.random.default_rng(0), 4):
            candidate = Candidate(workload, device, points[i])
            (built,) = session.build([candidate])
            assert built.artifact is not None
            trial = session.evaluate(candidate, built.artifact)
            assert trial.verified, trial.measurement.message


@pytest.mark.parametrize(
    ("bits", "build", "add", "convert"),
    [
        # e = b + 2, A = b + 8 + 7 for groups of 128; convert = A + A·⌈log2 A⌉ + 174 + 24·5 + 25
        (2, 11 * 5, 18, 17 + 17 * 5 + 174 + 145),
        (4, 11 * 7, 20, 19 + 19 * 5 + 174 + 145),
        (8, 11 * 11, 24, 23 + 23 * 5 + 174 + 145),
    ],
)
def test_cycles_per_bit_width(bits: int, build: int, add: int, convert: int) -> None:
    widths = Widths(bits, 4, 8, 128)
    cycles = widths.cycles
    assert (cycles["BUILD"], cycles["ADD bit=0"], cycles["ADD bit=7"]) == (build, add, add - 7)
    assert cycles["CONVERT"] + cycles["SCALE"] + cycles["ACCUMULATE"] == convert


def test_a_table_is_built_once_for_the_rows_that_share_it() -> None:
    backend, device = resolve_device("pim:sram-lut")
    workload = Workload.parse("matmul m=2 n=64 k=256 act=f32 weight=u4:64")

    def commands(batch: int) -> dict[str, int]:
        return dict(backend.simulate(workload, device, {"batch": batch}).commands)  # type: ignore[arg-type]

    assert commands(1)["BUILD"] == 2 * commands(2)["BUILD"] == 2 * 256 // 4
    assert commands(1)["ADD"] == commands(2)["ADD"]


def test_total_cycles_follow_the_documented_formula() -> None:
    backend, device = resolve_device("pim:sram-lut")
    schedule = {"inputs": 4, "batch": 1, "split_k": 1, "reuse": False, "conversion": "in_memory"}
    result = backend.simulate(GEMV, device, schedule)
    commands = dict(result.commands)
    entry, accumulator = 4 + 2, 4 + 8 + 6
    rng = np.random.default_rng(0)  # the activations a simulation without data counts
    x = rng.standard_normal((1, 256), np.float32)
    largest = np.abs(x.reshape(4, 64)).max(axis=1)
    codes = np.rint(x.reshape(4, 64) / (largest / 127)[:, None]).astype(int).reshape(-1)
    adds = fetches = 0
    for first in range(0, 256, 4):
        for plane in range(8):
            if any(int(code) & 255 & 1 << plane for code in codes[first : first + 4]):
                fetches += 1
                adds += accumulator - plane + 1
    assert commands["FETCH"] == commands["ADD"] == fetches
    convert = accumulator + accumulator * 5 + 174 + 145
    expected = 64 * 11 * (entry + 1) + fetches * entry + adds + 4 * convert + 256 * 8 / 8 / 32
    assert dict(result.counters)["compute_cycles"] == np.ceil(expected)


def test_patterns_are_bits_of_successive_activations() -> None:
    codes = np.array([[1, -1, 0, 2, 3, 0, 0, 0]])
    patterns = indices(codes, 4, 8)
    assert patterns[0, 0].tolist() == [0b0011, 0b1010, *[0b0010] * 6]
    assert patterns[0, 1].tolist() == [1, 1, 0, 0, 0, 0, 0, 0]


def test_a_repeated_pattern_is_fetched_once_while_a_register_holds_it() -> None:
    patterns = np.array([[[3, 3, 5, 3, 0, 0, 7, 3]]])
    assert count(patterns, 1, 4).reused == 3
    assert count(patterns, 1, 1).reused == 1
    assert count(patterns, 1, 4).adds.tolist() == [[[1, 1, 1, 1, 0, 0, 1, 1]]]


@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 6), st.integers(1, 5), st.integers(0, 1 << 30))
@settings(max_examples=40, deadline=None)
def test_look_ups_are_those_of_registers_replaced_in_turn(
    m: int, k: int, batch: int, registers: int, seed: int
) -> None:
    """Looked up one after the other, with a queue for the registers of a table."""
    codes = np.random.default_rng(seed).integers(-128, 128, (m, 4 * k)) % 128 - 64
    found = count(indices(codes, 4, 8), batch, registers)
    for b in range(0, m, batch):
        for table in range(k):
            queue: deque[int] = deque(maxlen=registers)
            adds, reused = [0] * 8, 0
            for plane in range(8):
                for row in codes[b : b + batch, 4 * table : 4 * table + 4]:
                    pattern = sum(1 << i for i, code in enumerate(row.tolist()) if code & 255 & 1 << plane)
                    adds[plane] += pattern > 0
                    reused += pattern in queue
                    if pattern and pattern not in queue:
                        queue.append(pattern)
            assert found.adds[b // batch, table].tolist() == adds
            assert found.reused[b // batch, table] == reused


def test_rows_worked_on_together_share_patterns() -> None:
    patterns = np.array([[[3, 5]], [[3, 5]]])
    assert count(patterns, 1, 4).reused.tolist() == [[0], [0]]
    assert count(patterns, 2, 4).reused.tolist() == [[2]]


def test_slices_of_k_wait_for_the_one_with_most_to_do() -> None:
    """Of five scale groups on two bitlines one has three; their float sums are added at the end."""
    workload = Workload.parse("matmul m=1 n=64 k=160 act=f32 weight=u4:32")
    schedule = Schedule.of(inputs=4, batch=1, split_k=2, reuse=False, conversion="in_memory")
    result = LutKernel(workload, read_sram(), schedule).report(np.ones((1, 160)))  # codes of 127: bits 0 to 6
    additions = sum(17 - bit + 1 for bit in range(7))
    group = 8 * (11 * 7 + 7 * 6 + additions) + 17 + 17 * 5 + 174 + 145
    assert dict(result.counters)["compute_cycles"] == 3 * group + 145 + 160 // 32


def test_equal_activations_are_reused_more_than_random_ones() -> None:
    rng = np.random.default_rng(0)
    random = indices(rng.integers(-127, 128, (1, 4096)), 4, 8)
    small = indices(rng.integers(-3, 4, (1, 4096)), 4, 8)  # sign planes repeat
    found = [count(p, 1, 4) for p in (random, small)]
    share = [lookups.reused.sum() / lookups.adds.sum() for lookups in found]
    assert share[1] > 1.5 * share[0] > 0


def test_reuse_saves_cycles_in_the_direction_of_the_paper() -> None:
    """SAIL reports 13.8 %; what random activations give is printed by fettle simulate as reuse_saving."""
    backend, device = resolve_device("pim:sram-lut")
    workload = Workload.parse("matmul m=8 n=4096 k=4096 act=bf16 weight=u4:128")
    result = backend.simulate(workload, device, {"split_k": 32})
    assert 0.03 < dict(result.counters)["reuse_saving"] < 0.138


def test_the_data_file_names_its_sources() -> None:
    sram = read_sram()
    assert "2509.25853" in sram.source
    assert "et al." in sram.energy_source


def test_what_the_device_cannot_do_is_said() -> None:
    backend, device = resolve_device("pim:sram-lut")
    for text in ("matmul m=1 n=8 k=8 act=f32 weight=f32", "softmax rows=1 cols=8 act=f32"):
        with pytest.raises(Unsupported):
            backend.simulate(Workload.parse(text), device, {})
    with pytest.raises(InvalidArgument):
        backend.simulate(GEMV, device, {"inputs": 3})
    with pytest.raises(InvalidDevice):
        resolve_device("pim:sram-lut,arrays=0")
    with pytest.raises(InvalidDevice):
        resolve_device("pim:sram-lut,refresh=on")
