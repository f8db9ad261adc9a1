"""Passes over the keys follow from the Einsums; attention that walks more often moves more."""

from __future__ import annotations

import pytest

from fettle.backends.api import Value
from fettle.backends.npu.systolic import scratchpad
from fettle.backends.npu.systolic.cascade import CASCADES, Einsum, carried, operations, passes, read_in
from fettle.backends.registry import resolve_device
from fettle.graph.workload import Workload
from tests.graph.memory.conflicts import conflicts


@pytest.mark.parametrize("number", [1, 2, 3])
def test_passes_follow_from_the_cascade(number: int) -> None:
    assert passes(CASCADES[number]) == number


def test_what_is_carried_and_when_operands_are_read() -> None:
    assert carried(CASCADES[1]) == ()
    assert carried(CASCADES[2]) == (("SLN", 1, 2),)
    assert carried(CASCADES[3]) == (("QK", 1, 2), ("SN", 2, 3))
    assert [read_in(CASCADES[n], "K") for n in (1, 2, 3)] == [1, 1, 1]
    assert [read_in(CASCADES[n], "V") for n in (1, 2, 3)] == [1, 2, 3]


def test_a_mean_removed_takes_two_passes_and_a_variance_three() -> None:
    mean = (Einsum.of("S[p] = X[m,p]", 1), Einsum.of("D[m,p] = X[m,p] * S[p]", 1))
    assert passes(mean) == 2
    variance = (*mean, Einsum.of("V[p] = D[m,p]", 1), Einsum.of("Y[m,p] = D[m,p] * V[p]", 1))
    assert passes(variance) == 3
    assert carried(variance) == (("D", 2, 3),)


def test_operations_count_points() -> None:
    sizes = {"m": 5, "p": 3, "e": 2, "f": 2}
    assert [operations(CASCADES[3], walk, sizes) for walk in (1, 2, 3)] == [15, 10 * 15, 15]


def test_a_small_scratchpad_spills_what_is_carried() -> None:
    backend, device = resolve_device("npu:systolic,rows=16,cols=16,sram=32")
    workload = Workload.parse("attention heads=1 q=64 kv=2048 dim=32 act=bf16")
    schedule = {"block_q": 64, "tile_kv": 16, "block_kv": 16}
    spilled = [
        dict(backend.simulate(workload, device, {**schedule, "passes": n}).counters)["spilled_bytes"] for n in (1, 2, 3)
    ]
    scores = 64 * 2048 * 4
    assert spilled == [0, 2 * scores, 4 * scores]


def test_loaded_masks_cost_traffic_and_generated_ones_do_not() -> None:
    backend, device = resolve_device("npu:systolic,rows=16,cols=16")
    workload = Workload.parse("attention heads=2 q=64 kv=64 dim=32 act=bf16 causal=true")
    schedule = {"block_q": 16, "tile_kv": 16, "block_kv": 16}
    generated, loaded = (
        backend.simulate(workload, device, {**schedule, "mask": mask}).dram_bytes for mask in ("generated", "loaded")
    )
    assert loaded - generated == 2 * 4 * 16 * 16  # a byte an element of the four tiles on each head's diagonal


def test_tensors_that_never_live_together_share_the_scratchpad() -> None:
    """Three walks: the second slot of keys is free before values are loaded; by hand, at the walk with values."""
    schedule: dict[str, Value] = {"block_q": 16, "tile_kv": 32, "block_kv": 16, "buffers": 2}
    buffers = scratchpad.tensors(CASCADES[3], schedule, kv=128, dim=8, query_bytes=2, cache_bytes=2)
    plan = scratchpad.lay_out(buffers)
    slot, scores = 32 * 8 * 2, 16 * 128 * 4
    always = 16 * 8 * 2 + 2 * 16 * 16 * 4 + slot + scores  # queries, logits, weights, keys, what is carried
    assert plan.peak == always + 2 * slot + 16 * 8 * 4  # both slots of values and the result, not the other keys
    assert sum(buffer.size for buffer in buffers) == plan.peak + slot
    assert conflicts(buffers, plan.offsets) == []
    alone = scratchpad.tensors(CASCADES[1], schedule, kv=128, dim=8, query_bytes=2, cache_bytes=2)
    assert scratchpad.lay_out(alone).peak == sum(buffer.size for buffer in alone)  # one walk: all live together


def test_planning_keeps_scores_on_chip_that_would_not_fit_side_by_side() -> None:
    text = "attention heads=1 q=16 kv=128 dim=8 act=bf16"
    schedule: dict[str, Value] = {"block_q": 16, "tile_kv": 128, "block_kv": 16, "buffers": 2, "passes": 3}
    workload = Workload.parse(text)
    backend, device = resolve_device("npu:systolic,rows=16,cols=16,sram=17")
    counters = dict(backend.simulate(workload, device, schedule).counters)
    slot = 128 * 8 * 2
    apart = 16 * 8 * 2 + 2 * 16 * 16 * 4 + 4 * slot + 16 * 128 * 4 + 16 * 8 * 4
    assert int(counters["scratchpad_bytes"]) == apart - slot <= 17 * 1024 < apart
    assert counters["spilled_bytes"] == 0
