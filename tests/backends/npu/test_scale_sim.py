"""Cycles and DRAM traffic beside those of SCALE-Sim 3.0.0: recorded totals, and its rules written out again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fettle.backends.api import Simulation, Value
from fettle.backends.npu.systolic import folds, program
from fettle.backends.npu.systolic.gemm import Gemm
from fettle.backends.npu.systolic.hardware import Systolic
from fettle.backends.npu.systolic.product import Product
from fettle.backends.registry import resolve_device
from fettle.graph.workload import Workload

OS, WS, IS = folds.OUTPUT, folds.WEIGHT, folds.INPUT
Shape = tuple[int, int, int]


def i8(m: int, n: int, k: int) -> Workload:
    return Workload.parse(f"matmul m={m} n={n} k={k} act=i8 weight=i8")


def simulate(shape: Shape, device: str, schedule: Mapping[str, Value]) -> Simulation:
    backend, resolved = resolve_device(f"npu:systolic,{device}")
    return backend.simulate(i8(*shape), resolved, schedule)


def compute_cycles(shape: Shape, rows: int, cols: int, dataflow: str) -> int:
    result = simulate(shape, f"rows={rows},cols={cols}", {"dataflow": dataflow})
    return int(dict(result.counters)["compute_cycles"])


# ---------------------------------------------------------------------------------------------------- cycles


@pytest.mark.parametrize(
    ("shape", "dataflow", "cycles"),
    [
        ((512, 512, 512), OS, 12255),
        ((512, 512, 512), WS, 14303),
        ((300, 200, 100), OS, 2123),
        ((300, 200, 100), IS, 1745),
    ],
)
def test_compute_cycles_are_those_of_scale_sim(shape: Shape, dataflow: str, cycles: int) -> None:
    assert compute_cycles(shape, 128, 128, dataflow) == cycles


def scale_sim(m: int, n: int, k: int, rows: int, cols: int, dataflow: str) -> int:
    """SCALE-Sim's total, from its demand matrices: row r of the array is fed r cycles late, fold after fold.

    Operands that stay are loaded from the far row to the near one; each column's output leaves a cycle after the one
    beside it. Cycles are numbered from 0 and the number of the last one is reported.
    """
    over_rows, over_cols, streamed = {OS: (m, n, k), WS: (k, n, m)}.get(dataflow, (k, m, n))
    cycle = 0
    for _ in range(0, over_rows, rows):
        for _ in range(0, over_cols, cols):
            if dataflow != OS:
                cycle += rows  # the whole array is filled, also by a partial fold
            last_fed = cycle + (streamed - 1) + (rows - 1)  # the last element enters the last row
            cycle = last_fed + (cols - 1) + 1  # and is at the far column so many cycles later
    return cycle - 1


@given(*[st.integers(1, 300)] * 3, *[st.integers(1, 40)] * 2, st.sampled_from(folds.DATAFLOWS))
@settings(max_examples=60, deadline=None)
def test_other_shapes_and_arrays_take_what_scale_sim_takes(
    m: int, n: int, k: int, rows: int, cols: int, dataflow: str
) -> None:
    assert compute_cycles((m, n, k), rows, cols, dataflow) == scale_sim(m, n, k, rows, cols, dataflow)


def padded(rows: int, columns: int) -> np.ndarray:
    """A demand matrix of a fold, a line a cycle, whose column c is asked for c cycles late; -1 asks for nothing."""
    demand = np.full((rows + columns - 1, columns), -1)
    for c in range(columns):
        demand[c : c + rows, c] = 0
    return demand


@pytest.mark.parametrize(("rows", "cols"), [(32, 64), (64, 32), (16, 48), (7, 5), (1, 9)], ids=str)
def test_a_grid_of_shapes_takes_as_many_lines_as_scale_sim_has_demands(rows: int, cols: int) -> None:
    """Ten ragged shapes on each of five arrays, in all dataflows, against matrices built as SCALE-Sim's are: loads (or
    nothing) before the streamed lines, cols - 1 lines of draining behind them, rows skewed."""
    rng = np.random.default_rng(rows)
    for m, n, k in rng.integers(1, 200, (10, 3)).tolist():
        for dataflow, (over_rows, over_cols, streamed) in {OS: (m, n, k), WS: (k, n, m), IS: (k, m, n)}.items():
            loads = 0 if dataflow == OS else rows
            fold = padded(loads + streamed + cols - 1, rows)
            lines = len(np.concatenate([fold] * (-(-over_rows // rows) * -(-over_cols // cols))))
            assert compute_cycles((m, n, k), rows, cols, dataflow) == lines - 1, (m, n, k, dataflow)


# --------------------------------------------------------------------------------------------------- traffic

RECORDED: list[tuple[str, int, int, int, Shape, tuple[int, int, int]]] = [
    (OS, 16, 16, 1, (64, 64, 64), (16384, 16384, 4111)),
    (OS, 16, 16, 2, (100, 40, 72), (21600, 16704, 4015)),
    (OS, 16, 16, 4, (33, 100, 130), (30030, 37960, 3315)),
    (OS, 16, 16, 64, (33, 100, 130), (4290, 13000, 3300)),
    (OS, 32, 8, 2, (60, 90, 70), (50400, 10700, 5407)),
    (OS, 16, 16, 64, (1, 64, 200), (200, 12800, 64)),
    (OS, 5, 7, 1, (23, 31, 17), (391, 551, 713)),
    (WS, 16, 16, 1, (64, 64, 64), (16384, 4096, 16399)),
    (WS, 8, 32, 4, (60, 90, 70), (12600, 6300, 48631)),
    (WS, 16, 16, 8, (100, 40, 72), (21600, 2880, 20015)),
    (WS, 16, 16, 64, (1, 64, 200), (200, 12800, 832)),
    (WS, 5, 7, 64, (23, 31, 17), (391, 527, 2852)),
    (IS, 16, 16, 1, (48, 160, 32), (1536, 15360, 15375)),
    (IS, 5, 7, 2, (23, 31, 17), (391, 527, 2852)),
    (IS, 32, 8, 4, (60, 90, 70), (4200, 50400, 16207)),
    (IS, 16, 16, 64, (200, 16, 48), (9600, 768, 9600)),
]
"""Dataflow, rows, columns, KiB of each of its three scratchpads, M×N×K, and what SCALE-Sim 3.0.0 (``InterfaceBandwidth:
CALC``, words of a byte) reports: ``DRAM IFMAP Reads``, ``DRAM Filter Reads``, ``DRAM OFMAP Writes``."""


def skewed(block: np.ndarray) -> list[int]:
    """Elements ``[lines, columns]`` in the order an array asks for them, column c as many cycles late."""
    lines, columns = block.shape
    demand = np.full((lines + columns - 1, columns), -1)
    for c in range(columns):
        demand[c : c + lines, c] = block[:, c]
    return [int(element) for element in demand.ravel() if element >= 0]


def demands(shape: Shape, rows: int, cols: int, dataflow: str) -> Iterator[tuple[list[int], list[int]]]:
    """What each fold of our own program, in the textbook's order, asks of inputs and weights."""
    m, n, k = shape
    backend, device = resolve_device(f"npu:systolic,rows={rows},cols={cols}")
    folding = folds.FOLDINGS[dataflow]
    tile = dict(zip(("tile_m", "tile_n", "tile_k"), shape, strict=True))
    names = tuple(tile)
    tile[names[folding.over_rows]] = min(rows, shape[folding.over_rows])
    tile[names[folding.over_cols]] = min(cols, shape[folding.over_cols])
    schedule = backend.simulate(i8(*shape), device, {"dataflow": dataflow, **tile}).schedule
    mapped = Gemm(Product.of(i8(*shape)), Systolic.of(device), schedule)
    x, w = np.arange(m * k).reshape(m, k), np.arange(k * n).reshape(k, n)
    for step in mapped.steps(slice(0, m)).tolist():
        some_m, some_n, some_k = (slice(step[2 * d], step[2 * d + 1]) for d in range(3))
        assert step[program.STORE] or dataflow != OS
        x_tile, w_tile = x[some_m, some_k], w[some_k, some_n]
        if dataflow == OS:
            yield skewed(x_tile.T), skewed(w_tile)
        elif dataflow == WS:
            yield skewed(x_tile), w_tile[::-1].ravel().tolist()  # the far row of the array is loaded first
        else:
            yield x_tile.T[::-1].ravel().tolist(), skewed(w_tile.T)


def misses(asked: list[int], kib: int) -> int:
    """Reads of a scratchpad that SCALE-Sim models as double-buffered: whatever is asked for is kept until half of the
    scratchpad (50 hundredths, each rounded down) is full; then all of it is forgotten."""
    capacity, kept, count = 50 * (1024 * kib // 100), set[int](), 0
    for element in asked:
        if element not in kept:
            kept.add(element)
            count += 1
            if len(kept) == capacity:
                kept.clear()
    return count


@pytest.mark.parametrize(("dataflow", "rows", "cols", "kib", "shape", "recorded"), RECORDED)
def test_our_folds_read_through_scale_sims_scratchpads_what_it_reports(
    dataflow: str, rows: int, cols: int, kib: int, shape: Shape, recorded: tuple[int, int, int]
) -> None:
    every = list(demands(shape, rows, cols, dataflow))
    reads = [misses([element for fold in every for element in fold[operand]], kib) for operand in (0, 1)]
    assert tuple(reads) == recorded[:2]
    m, n, k = shape
    sums = m * n * (1 if dataflow == OS else -(-k // rows))  # every fold along k writes its sums, and reads none
    assert 0 <= recorded[2] - sums < cols  # its last line of a write counts as full


@pytest.mark.parametrize(
    ("dataflow", "rows", "cols", "kib", "shape", "recorded"), [row for row in RECORDED if row[3] == 64]
)
def test_operands_that_fit_are_loaded_once_as_in_scale_sim(
    dataflow: str, rows: int, cols: int, kib: int, shape: Shape, recorded: tuple[int, int, int]
) -> None:
    result = simulate(shape, f"rows={rows},cols={cols},sram={3 * kib}", {"dataflow": dataflow})
    moved = dict(result.counters)
    assert (moved["dram_inputs"], moved["dram_weights"]) == recorded[:2]
    assert moved["dram_sums_in"] == moved["dram_sums_out"] == 0  # ours are added up in the scratchpad
    assert moved["dram_results"] == 4 * shape[0] * shape[1]


@pytest.mark.parametrize(
    ("dataflow", "rows", "cols", "shape", "tiles", "recorded"),
    [
        (OS, 16, 16, (64, 64, 64), (16, 16, 32), (16384, 16384, 4111)),
        (OS, 16, 16, (33, 100, 130), (16, 16, 64), (30030, 39000, 3315)),
        (WS, 16, 16, (64, 64, 64), (32, 16, 16), (16384, 4096, 16399)),
        (WS, 8, 32, (60, 90, 70), (32, 32, 8), (12600, 6300, 48631)),
        (IS, 16, 16, (48, 160, 32), (16, 32, 16), (1536, 15360, 15375)),
        (IS, 32, 8, (60, 90, 70), (8, 16, 32), (4200, 50400, 16207)),
    ],
)
def test_a_schedule_of_single_folds_moves_what_scale_sim_moves_where_nothing_fits(
    dataflow: str, rows: int, cols: int, shape: Shape, tiles: Shape, recorded: tuple[int, int, int]
) -> None:
    """SCALE-Sim with scratchpads of 1 KiB: no strip of an operand lasts until it is wanted again."""
    schedule: dict[str, Value] = dict(zip(("tile_m", "tile_n", "tile_k"), tiles, strict=True))
    result = simulate(shape, f"rows={rows},cols={cols}", {"dataflow": dataflow, **schedule})
    moved = dict(result.counters)
    assert (moved["dram_inputs"], moved["dram_weights"]) == recorded[:2]
    written = (int(moved["dram_sums_out"]) + int(moved["dram_results"])) // 4
    assert 0 <= recorded[2] - written < cols
    assert result.dram_bytes == sum(int(moved[name]) for name in moved if name.startswith("dram_"))
    assert int(moved["compute_cycles"]) == scale_sim(*shape, rows, cols, dataflow)


@pytest.mark.parametrize(
    ("dataflow", "rows", "cols", "sram", "shape", "recorded"),
    [
        (OS, 16, 16, 4, (33, 100, 130), (30030, 39000)),
        (OS, 32, 8, 24, (60, 90, 70), (50400, 12600)),
        (WS, 16, 16, 6, (100, 40, 72), (21600, 2880)),
        (WS, 5, 7, 4, (23, 31, 17), (1955, 527)),
        (IS, 8, 32, 4, (60, 90, 70), (4200, 12600)),
        (IS, 16, 16, 12, (1, 64, 200), (200, 12800)),
    ],
)
def test_the_array_reads_of_its_scratchpad_what_scale_sim_reports(
    dataflow: str, rows: int, cols: int, sram: int, shape: Shape, recorded: tuple[int, int]
) -> None:
    """``SRAM IFMAP Reads`` and ``SRAM Filter Reads``. Sums that do not stay leave after each fold along k, as in
    SCALE-Sim, and come back to be added to, which it does not count."""
    read = dict(simulate(shape, f"rows={rows},cols={cols},sram={sram}", {"dataflow": dataflow}).counters)
    assert (read["array_inputs"], read["array_weights"]) == recorded
    m, n, k = shape
    along_k = 1 if dataflow == OS else -(-k // rows)
    assert read["array_sums"] == 4 * m * n * (2 * along_k - 1)
