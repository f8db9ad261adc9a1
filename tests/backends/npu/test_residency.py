"""What lies in a scratchpad when, and that it is planned without overlap."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from fettle.backends.api import Schedule
from fettle.backends.npu.systolic import program, tiling
from fettle.backends.npu.systolic.gemm import Gemm
from fettle.backends.npu.systolic.hardware import Systolic
from fettle.backends.npu.systolic.matmul import simulation
from fettle.backends.npu.systolic.product import Product
from fettle.backends.spaces import enumerate_space
from fettle.graph.workload import Workload

TINY = Systolic(rows=16, cols=16, sram=4, bandwidth=8)


def product(m: int, n: int, k: int, weight: str = "i8", batch: int = 1) -> Product:
    act = "i8" if weight == "i8" else "bf16"
    return Product.of(Workload.parse(f"matmul batch={batch} m={m} n={n} k={k} act={act} weight={weight}"))


def occupied(mapped: Gemm) -> list[tuple[int, int, int, int]]:
    """(first cycle, last cycle, first byte, last byte) of every tile, ends excluded."""
    offsets = mapped.scratchpad.offsets
    return [
        (int(begin), int(end), offsets[operand.name(number)], offsets[operand.name(number)] + int(size))
        for operand in mapped.residents
        for number, (begin, end, size) in enumerate(zip(operand.begin, operand.end, operand.size, strict=True))
    ]


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60), st.integers(1, 3), st.data())
@settings(max_examples=60, deadline=None)
def test_no_byte_holds_two_tiles_at_any_time(m: int, n: int, k: int, batch: int, data: st.DataObject) -> None:
    some = product(m, n, k, batch=batch)
    space = enumerate_space(tiling.space(some, TINY))
    mapped = Gemm(some, TINY, space[data.draw(st.integers(0, space.size - 1))])
    tiles = occupied(mapped)
    assert all(0 <= low < high <= mapped.scratchpad.peak for _, _, low, high in tiles)
    at = data.draw(st.integers(0, mapped.cycles))
    for cycle in {at, *(begin for begin, *_ in tiles)}:
        held = sorted((low, high) for begin, end, low, high in tiles if begin <= cycle < end)
        assert all(high <= low for (_, high), (low, _) in itertools.pairwise(held)), cycle


def test_every_load_and_every_output_is_a_tile() -> None:
    schedule = Schedule.of(dataflow="output_stationary", tile_m=16, tile_n=16, tile_k=16, order="mnk", buffers=2)
    mapped = Gemm(product(40, 20, 50), TINY, schedule)
    steps = mapped.steps(mapped.shards[0])
    inputs, weights, sums = mapped.residents
    assert len(inputs.begin) == steps[:, program.LOAD_X].sum()
    assert len(weights.begin) == steps[:, program.LOAD_W].sum()
    assert len(sums.begin) == 3 * 2
    assert inputs.size.max() == weights.size.max() == 16 * 16
    assert sums.size.tolist() == [4 * 16 * 16, 4 * 16 * 4] * 2 + [4 * 8 * 16, 4 * 8 * 4]


def test_a_schedule_is_legal_where_its_slots_fit() -> None:
    """Against the same space with room for everything."""
    some = product(40, 30, 70)
    wide = Systolic(rows=16, cols=16, sram=1024, bandwidth=8)
    legal = enumerate_space(tiling.space(some, TINY))
    every = enumerate_space(tiling.space(some, wide))
    assert 0 < legal.size < every.size
    for number in range(every.size):
        fits = Gemm(some, wide, every[number]).scratchpad.peak <= TINY.sram_bytes
        assert fits == (legal.index(every[number]) is not None), every[number]


def test_an_operand_that_is_loaded_once_has_one_slot() -> None:
    schedule = Schedule.of(dataflow="weight_stationary", tile_m=16, tile_n=16, tile_k=16, order="nkm", buffers=2)
    result = simulation(Gemm(product(64, 16, 16), TINY, schedule))
    assert dict(result.counters)["scratchpad_bytes"] == 16 * 16 + 2 * 16 * 16 + 2 * 4 * 16 * 16
    assert {name for name, _ in result.offsets} == {"inputs 0", "inputs 1", "weights 0", "sums 0", "sums 1"}


def test_weights_with_scales_fit_too() -> None:
    some = product(1, 100, 256, weight="u4:32")
    space = enumerate_space(tiling.space(some, TINY))
    for number in range(0, space.size, 7):
        assert Gemm(some, TINY, space[number]).scratchpad.peak <= TINY.sram_bytes
