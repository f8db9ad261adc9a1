"""The analysis of attention: it ranks what was measured, and counts what the loops do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fettle.backends.api import Candidate, Device, DeviceText, Schedule
from fettle.backends.cpu import CpuBackend
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.attention import Attention
from fettle.backends.cpu.attention.analysis import busiest_thread
from fettle.backends.cpu.attention.plan import Plan
from fettle.backends.replay.files import read_recording
from fettle.backends.spaces import is_valid
from fettle.costmodel.features import ANALYTIC
from fettle.costmodel.metrics import spearman
from fettle.costmodel.recorded import analysed
from fettle.graph.workload import Workload

FAMILY = Attention()
RECORDED = Path(__file__).parents[4] / "bench" / "results" / "zen4"
RECORDINGS = [RECORDED / "decoder_layer" / "attention.json.gz", *sorted((RECORDED / "attention").glob("*.json.gz"))]


def device(threads: int = 1) -> Device:
    return CpuBackend().device(DeviceText.parse(f"cpu,threads={threads}"))


def cycles(text: str, where: Device, **changes: object) -> dict[str, float]:
    workload = Workload.parse(text)
    values = FAMILY.default(workload, where).as_dict() | changes
    return busiest_thread(Plan.of(workload, Schedule(tuple(values.items())), where), where)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.name.removesuffix(".json.gz"))
def test_the_analysis_ranks_recorded_schedules_and_its_best_eighth_has_a_fast_one(path: Path) -> None:
    known = analysed(read_recording(path))
    estimate = known.features[:, known.names.index(ANALYTIC)]
    assert (spearman(estimate, known.log_times) or 0.0) >= 0.7
    promising = known.log_times[np.argsort(estimate)[: len(estimate) // 8]]
    assert np.exp(promising.min() - known.log_times.min()) < 1.05


def test_there_are_recordings_of_many_kinds_of_attention() -> None:
    assert len(RECORDINGS) >= 14


def test_causal_blocks_cost_what_their_last_query_sees() -> None:
    whole, where = "attention heads=2 q=512 kv=512 dim=64 act=f32", device()
    shape = {"block": 64, "chunk": 64, "tile_rows": 4, "tile_vectors": 4}
    causal, full = cycles(f"{whole} causal=true", where, **shape), cycles(whole, where, **shape)
    blocks = range(1, 9)  # the n-th sees 64·n of 512 keys
    assert causal["loops"] / full["loops"] == pytest.approx(sum(64 * n for n in blocks) / (8 * 512), rel=0.01)
    assert causal["pack"] == full["pack"]


def test_keys_beyond_the_last_are_counted_by_whole_vectors_only() -> None:
    where = device()
    shape = {"chunk": 1024, "tile_rows": 1, "tile_vectors": 1}
    a, b = (cycles(f"attention heads=2 q=1 kv={kv} dim=64 act=f32", where, **shape) for kv in (1025, 1040))
    assert a["sum"] == b["sum"]
    assert cycles("attention heads=2 q=1 kv=1041 dim=64 act=f32", where, **shape)["sum"] > b["sum"]


def test_sums_wait_in_memory_where_keys_are_a_loop() -> None:
    text, where = "attention heads={0} kv_heads=1 q=1 kv=256 dim=128 act=f32", device()
    assert cycles(text.format(4), where)["parked"] == 0.0  # all rows in one tile
    assert cycles(text.format(8), where)["parked"] == 0.0  # in two equal ones
    assert cycles(text.format(4) + " kvcache=u8:64/f32", where)["parked"] > 0.0


def test_scores_of_as_many_rows_as_registers_have_room_for_are_summed_at_once() -> None:
    def rows(text: str, **changes: object) -> int:
        workload, where = Workload.parse(f"attention kv_heads=1 q=1 kv=256 {text}"), device()
        values = FAMILY.default(workload, where).as_dict() | changes
        return Plan.of(workload, Schedule(tuple(values.items())), where).score_rows  # type: ignore[arg-type]

    wide = cpu.vector_bits(device()) == 512
    assert [rows("heads=16 dim=64 act=f32 kvcache=u8:64/f32", keys=keys) for keys in (2, 4)] == (
        [8, 6] if wide else [6, 3]
    )
    assert rows("heads=6 dim=128 act=f32", keys=2) == 3  # as 4 of them unroll, and 3 and 3 are even
    assert rows("heads=1 dim=512 act=f32", keys=4) == 1


def test_lines_out_of_order_cost_more_only_where_no_cache_holds_them() -> None:
    where = device()
    held = cpu.last_level_bytes(where) // (4 * 2 * 8 * 512)  # of 8 heads, which with their values fill a quarter of it
    in_order = {"keys": 1, "tile_rows": 3, "tile_vectors": 8, "run": 16}

    def read(kv: int, **changes: object) -> float:
        text = f"attention heads=32 kv_heads=8 q=1 kv={kv} dim=128 act=f32"
        return cycles(text, where, **(in_order | changes))["read"]

    assert read(held) == read(held, keys=4) == read(held, run=1024)
    assert read(4 * held) < read(4 * held, keys=4) < read(4 * held, keys=4, tile_vectors=4)
    assert read(4 * held) < read(4 * held, run=1024)


def test_a_cache_beyond_the_last_level_is_read_in_order_by_default() -> None:
    where = device()
    keys = cpu.last_level_bytes(where) // 4096  # 8 heads of 512 bytes, twice: double of what it holds
    schedule = FAMILY.default(Workload.parse(f"attention heads=32 kv_heads=8 q=1 kv={keys} dim=128 act=f32"), where)
    assert schedule["keys"] == 1


def test_queries_are_scaled_for_each_group_of_keys() -> None:
    text, where = "attention heads=4 kv_heads=1 q=4 kv=1024 dim=128 act=f32", device()
    assert cycles(text, where)["scaled"] == 0.0
    by_group = [cycles(f"{text} kvcache=u8:{group}/f32", where, chunk=256)["scaled"] for group in (64, 32)]
    assert by_group[1] == 2 * by_group[0] > 0.0


@pytest.mark.skipif(cpu.Machine.detect().cores < 2, reason="one core")
def test_threads_share_the_loops_and_cost_a_start() -> None:
    text = "attention heads=4 q=1 kv=4096 dim=64 act=f32"
    one, two = (cycles(text, device(2), threads=threads) for threads in (1, 2))
    assert two["loops"] == pytest.approx(one["loops"] / 2)
    assert (one["fork"], two["fork"] > 0) == (0, True)


@pytest.mark.skipif(cpu.Machine.detect().cores < 2, reason="one core")
def test_work_shorter_than_starting_a_thread_stays_on_one() -> None:
    where = device(2)
    short, long = (Workload.parse(f"attention heads=4 q=1 kv={kv} dim=64 act=f32") for kv in (16, 8192))
    assert FAMILY.default(short, where)["threads"] == 1
    assert FAMILY.default(long, where)["threads"] == 2


@pytest.mark.parametrize(
    "text",
    [
        "attention heads=8 kv_heads=2 q=1 kv=300 dim=128 act=bf16",
        "attention heads=8 kv_heads=2 q=1 kv=300 dim=128 act=bf16 kvcache=u4:32/f32",
        "attention heads=2 q=40 kv=300 dim=31 act=f32 kvcache=u8:8/f32",
    ],
)
def test_no_schedule_is_expected_to_be_faster_than_the_default_but_by_what_the_default_leaves_alone(text: str) -> None:
    workload, where = Workload.parse(text), device()
    default = FAMILY.default(workload, where).as_dict()
    expected = FAMILY.estimate(Candidate(workload, where, Schedule(tuple(default.items()))))
    assert expected is not None
    space = FAMILY.space(workload, where)
    for parameter in space.parameters:
        if parameter.name in ("chunk", "block", "tile_rows", "tile_vectors"):
            for choice in parameter.choices:
                other = Schedule(tuple((default | {parameter.name: choice}).items()))
                if is_valid(space, other):
                    assert (FAMILY.estimate(Candidate(workload, where, other)) or 0.0) >= expected
