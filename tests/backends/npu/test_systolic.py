"""The systolic device: cycles of clocked cells, traffic counted by hand, right results."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fettle.backends.api import Candidate, MeasurePolicy, Simulation, Value
from fettle.backends.host.inprocess import InProcessSession
from fettle.backends.npu.systolic import folds, timeline
from fettle.backends.npu.systolic.hardware import Systolic
from fettle.backends.registry import resolve_device
from fettle.backends.spaces import enumerate_space
from fettle.graph.errors import InvalidArgument, InvalidDevice, Unsupported
from fettle.graph.workload import Workload
from fettle.search.explore import explore

SMALL = "npu:systolic,rows=16,cols=8,sram=64"


def simulate(workload: str, device: str, schedule: Mapping[str, Value] | None = None) -> Simulation:
    backend, resolved = resolve_device(device)
    return backend.simulate(Workload.parse(workload), resolved, schedule or {})


def i8(m: int, n: int, k: int) -> str:
    return f"matmul m={m} n={n} k={k} act=i8 weight=i8"


def cells(rows: int, cols: int, rows_used: int, cols_used: int, streamed: int, loads: bool) -> int:
    """Cycles of one fold of an array whose every register is clocked: operands hop right (or down) a cell a cycle."""
    arrived = np.full((rows, cols), -1)
    edge = np.full(rows, -1)
    start = rows if loads else 0
    moving = np.full((rows, cols), -1)
    last = 0
    for cycle in range(start + streamed + 2 * (rows + cols)):
        moving[:, 1:] = moving[:, :-1].copy()
        for row in range(rows):  # row r is fed r cycles late
            edge[row] = cycle - start - row if 0 <= cycle - start - row < streamed else -1
        moving[:, 0] = edge
        busy = moving >= 0
        arrived[busy] = cycle
        if busy.any():
            last = cycle
    assert (arrived >= 0).all()
    assert rows_used <= rows
    assert cols_used <= cols
    return last + 1


@pytest.mark.parametrize("dataflow", folds.DATAFLOWS)
@pytest.mark.parametrize(("rows", "cols"), [(4, 4), (6, 3), (2, 7)])
def test_folds_take_what_clocked_cells_take(dataflow: str, rows: int, cols: int) -> None:
    cost = folds.cost(Systolic(rows=rows, cols=cols), dataflow, 8)
    extents = (5, 3, 9)
    folding = folds.FOLDINGS[dataflow]
    count = -(-extents[folding.over_rows] // rows) * -(-extents[folding.over_cols] // cols)
    assert cost.cycles(extents) == count * cells(rows, cols, 1, 1, extents[folding.streamed], folding.loads)


@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 300), st.sampled_from(folds.DATAFLOWS))
@settings(max_examples=40, deadline=None)
def test_pieces_of_the_streamed_dimension_cost_no_extra_cycles(m: int, n: int, k: int, dataflow: str) -> None:
    """The textbook cuts what is streamed to the scratchpad; the array goes on where it was."""
    tiny = simulate(i8(m, n, k), "npu:systolic,rows=16,cols=8,sram=4", {"dataflow": dataflow})
    large = simulate(i8(m, n, k), "npu:systolic,rows=16,cols=8,sram=4096", {"dataflow": dataflow})
    assert dict(tiny.counters)["compute_cycles"] == dict(large.counters)["compute_cycles"]


def test_traffic_is_counted_tile_by_tile() -> None:
    tiles: dict[str, Value] = {"tile_m": 32, "tile_n": 16, "tile_k": 64, "dataflow": folds.OUTPUT}
    inner = simulate(i8(50, 40, 100), SMALL, {**tiles, "order": "mnk"})
    # every output tile reads its strips of both operands: 3 column tiles read x, 2 row tiles read w; i32 results
    assert inner.dram_bytes == 3 * 50 * 100 + 2 * 40 * 100 + 4 * 50 * 40
    outer = simulate(i8(50, 40, 100), SMALL, {**tiles, "order": "kmn"})
    # x is read once; sums of 4 bytes leave and come back between the two steps of k
    assert outer.dram_bytes == 50 * 100 + 2 * 40 * 100 + 3 * 4 * 50 * 40
    kept = simulate(i8(50, 40, 100), f"{SMALL},tier=64", {**tiles, "order": "kmn"})
    assert kept.dram_bytes == 50 * 100 + 40 * 100 + 4 * 50 * 40


def test_shared_operands_cross_a_mesh_once() -> None:
    whole: dict[str, Value] = {"tile_m": 64, "tile_n": 64, "tile_k": 64, "dataflow": folds.OUTPUT, "order": "mnk"}
    product = i8(64, 64, 64)
    once = 64 * 64 + 64 * 64 + 4 * 64 * 64
    for split in "mnk":
        assert simulate(product, f"{SMALL},mesh=2x2", {**whole, "split": split}).dram_bytes == once


def test_a_timeline_by_hand() -> None:
    durations = np.array([[10, 20, 0, 0], [10, 20, 5, 10]], np.int64)
    assert timeline.run(durations, 1, 3, True).tolist() == [[13, 13, 33, 33], [23, 33, 53, 68]]
    assert timeline.run(durations, 1, 3, False).tolist() == [[13, 13, 33, 33], [46, 46, 66, 81]]


def test_double_buffering_hides_loads() -> None:
    def cycles(buffers: int) -> int:
        return simulate(i8(256, 256, 256), "npu:systolic,rows=32,cols=32", {"buffers": buffers}).cycles

    assert cycles(2) < cycles(1)


def test_cycles_of_bit_serial_elements_scale_with_the_weights_bits() -> None:
    def compute(bits: int) -> int:
        workload = f"matmul m=256 n=128 k=4096 act=f32 weight=u{bits}:128"
        return int(dict(simulate(workload, "npu:systolic,pe=bitserial").counters)["compute_cycles"])

    pipeline = 2 * (128 + 128 - 2)  # of two folds, paid once whatever the bits
    assert (compute(4) + 1 - pipeline) == 2 * (compute(2) + 1 - pipeline)


def test_a_lut_tensor_core_takes_a_cycle_per_bit_of_its_block() -> None:
    result = simulate("matmul m=2 n=64 k=128 act=f32 weight=u2:128", "npu:systolic,pe=lut,units=1")
    assert dict(result.counters)["compute_cycles"] == 2 * 128 // 4 - 1


def test_the_vector_unit_counts_operations() -> None:
    result = simulate("softmax rows=4 cols=128 act=f32", "npu:systolic,vector=64", {"tile_rows": 1})
    assert dict(result.counters)["vector_cycles"] == 4 * 128 * 12 // 64
    assert result.dram_bytes == 2 * 4 * 128 * 4


CASES = [
    (SMALL, i8(50, 37, 100), 40),
    (f"{SMALL},mesh=2x2", "matmul batch=2 m=50 n=37 k=100 act=i8 rhs=i8", 40),
    (f"{SMALL},mesh=1x3,tier=8", "matmul m=50 n=37 k=100 act=f32 weight=u4:32", 30),
    ("npu:systolic", "matmul m=50 n=37 k=100 act=bf16 weight=bf16 out=f32", 10),
    ("npu:systolic,pe=lut", "matmul m=20 n=37 k=100 act=f32 weight=u3:32:zp", 10),
    ("npu:systolic,pe=lut", "matmul m=20 n=37 k=100 act=f32 weight=tern:32", 10),
    ("npu:systolic,pe=lut", "matmul m=20 n=37 k=100 act=f32 weight=bip1:32 compute=f32", 10),
    ("npu:systolic,pe=lut", i8(20, 37, 100), 10),
    ("npu:systolic,pe=bitserial", "matmul m=20 n=37 k=100 act=f32 weight=u2:32", 10),
    (SMALL, "attention heads=4 kv_heads=2 q=40 kv=100 dim=32 act=f32 causal=true", 40),
    (SMALL, "softmax rows=37 cols=50 act=f32", 10),
    (SMALL, "rmsnorm rows=9 cols=64 act=bf16", 10),
    (SMALL, "elementwise shape=3x7x32 act=f32 expr=silu(x0)*x1", 10),
    (SMALL, "attention batch=2 heads=4 kv_heads=2 q=1 kv=100 dim=32 act=bf16 causal=true", 20),
]


@pytest.mark.parametrize(("device", "text", "count"), CASES)
def test_every_mapping_computes_the_right_result(device: str, text: str, count: int) -> None:
    backend, resolved = resolve_device(device)
    workload = Workload.parse(text)
    points = enumerate_space(backend.space(workload, resolved))
    session = InProcessSession(backend, resolved, workload, MeasurePolicy(), 0)
    bound = backend.bound(workload, resolved, backend.profile(resolved)).seconds
    for number in points.sample(np.random.default_rng(0), count):
        candidate = Candidate(workload, resolved, points[number])
        trial = session.evaluate(candidate, backend.build(candidate))
        assert trial.verified, f"{points[number]}: {trial.measurement.message}"
        assert trial.measurement.time >= bound


@pytest.mark.parametrize("text", [i8(1, 4096, 4096), "attention heads=8 q=64 kv=512 dim=64 act=bf16"])
def test_the_default_is_a_point_of_the_space(text: str) -> None:
    backend, device = resolve_device("npu:systolic")
    workload = Workload.parse(text)
    assert backend.default(workload, device) in enumerate_space(backend.space(workload, device))


@pytest.mark.parametrize(
    "text", ["rows=0", "rows=x", "pe=magic", "mesh=2", "mesh=0x2", "colour=red", "clock=1000000", "sram=1"]
)
def test_wrong_devices_are_refused(text: str) -> None:
    with pytest.raises(InvalidDevice):
        resolve_device(f"npu:systolic,{text}")


def test_two_spellings_of_one_device_are_one_device() -> None:
    assert resolve_device("npu:systolic,rows=128,mesh=01x01")[1].key == resolve_device("npu:systolic")[1].key


def test_what_cannot_be_mapped_says_why() -> None:
    with pytest.raises(Unsupported, match="integer weights"):
        simulate("matmul m=8 n=8 k=8 act=f32 weight=f32", "npu:systolic,pe=lut")
    with pytest.raises(Unsupported, match="integer codes"):
        simulate("matmul m=8 n=8 k=64 act=f32 weight=bcq2:32", "npu:systolic")
    with pytest.raises(Unsupported, match="maps"):
        simulate("layernorm rows=8 cols=8 act=f32", "npu:systolic")
    with pytest.raises(InvalidArgument, match="dataflow"):
        simulate(i8(8, 8, 8), "npu:systolic", {"dataflow": "upwards"})
    with pytest.raises(InvalidArgument, match="no parameter"):
        simulate(i8(8, 8, 8), "npu:systolic", {"dataflw": folds.OUTPUT})
    with pytest.raises(InvalidArgument, match="scratchpad"):
        simulate(i8(512, 512, 512), SMALL, {"tile_m": 512, "tile_n": 512})


def test_tuning_beats_the_textbook() -> None:
    backend, device = resolve_device("npu:systolic")
    workload = Workload.parse(i8(256, 256, 4096))
    found = explore(backend, workload, device, 40, seed=0)
    assert all(evaluation.measurement.ok for evaluation in found)
    best = min(evaluation.measurement.time for evaluation in found)
    assert backend.simulate(workload, device, {}).seconds >= 1.1 * best
