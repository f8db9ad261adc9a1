"""bf16 products on tiles, against the float64 reference, and their code."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fettle.backends.api import Candidate, Schedule
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.amx import shapes
from fettle.backends.cpu.dense import Dense, layouts
from fettle.backends.spaces import is_valid
from fettle.graph import data
from fettle.graph.workload import Workload
from tests.backends.cpu.amx.support import (
    BACKEND,
    Built,
    assert_products_load_once_and_spill_nothing,
    candidate,
    device,
)

EPILOGUES = ("", " epilogue=relu(y+b0)", " epilogue=silu(y)+x0", " epilogue=(y+b0)*x0-b1")


@given(drawn=st.data())
@settings(
    max_examples=14,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
def test_every_schedule_is_right_for_every_shape(drawn: st.DataObject) -> None:
    batch, m, n = (drawn.draw(st.integers(1, most)) for most in (2, 40, 70))
    k = drawn.draw(st.integers(1, 70) | st.integers(100, 300) | st.sampled_from([32, 96, 256]))
    right, out = drawn.draw(st.sampled_from(["weight", "rhs"])), drawn.draw(st.sampled_from(["", " out=f32"]))
    workload = Workload.parse(
        f"matmul batch={batch} m={m} n={n} k={k} act=bf16 {right}=bf16{out}{drawn.draw(st.sampled_from(EPILOGUES))}"
    )
    space = BACKEND.space(workload, device())
    fixed = {"multiply": ("tiles",), "micro_m": shapes.heights(m), "unroll_k": (1,), "prefetch": (0,)}
    choices = space.choices | fixed
    schedule = drawn.draw(
        st.tuples(*(st.sampled_from(choices[name]) for name in space.names))
        .map(lambda values: Schedule(tuple(zip(space.names, values, strict=True))))
        .filter(lambda schedule: is_valid(space, schedule))
    )
    assert Built.of(Candidate(workload, device(), schedule)).error() <= 1


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("m=33 n=53 k=301 act=bf16 weight=bf16 epilogue=relu(y+b0)+x0", {"tile_k": 128}),
        ("batch=2 m=20 n=50 k=71 act=bf16 rhs=bf16", {}),
        ("m=32 n=96 k=64 act=bf16 weight=bf16 out=f32", {"copy_x": False}),
        ("m=48 n=16 k=33 act=bf16 weight=bf16", {"micro_m": 48, "micro_n": 16}),
        ("m=9 n=100 k=40 act=bf16 weight=bf16", {"micro_n": 96, "tile_n": 1}),
    ],
)
def test_blocks_of_k_edges_and_epilogues_are_right(text: str, changes: dict[str, int]) -> None:
    chosen = candidate(f"matmul {text}", **changes)
    assert chosen.schedule["multiply"] == "tiles"
    assert Built.of(chosen).error() <= 1


@pytest.mark.skipif(len(cpu.usable_cores()) < 2, reason="needs two cores")
def test_two_threads_compute_what_one_computes() -> None:
    text = "matmul m=40 n=96 k=64 act=bf16 weight=bf16 out=f32"
    operands = data.operands(Workload.parse(text), 0)
    one, two = (Built.of(candidate(text, threads, tile_m=1, tile_n=1)) for threads in (1, 2))
    assert two.artifact.schedule["threads"] == 2
    np.testing.assert_array_equal(one(operands), two(operands))


def test_infinities_stay_in_their_rows_and_columns() -> None:
    built = Built.of(candidate("matmul m=18 n=20 k=33 act=bf16 weight=bf16 out=f32"))
    x, weight = np.ones((18, 33), ml_dtypes.bfloat16), np.ones((33, 20), ml_dtypes.bfloat16)
    x[17, 32] = np.inf
    weight[32, 19] = np.inf
    result = built([x, weight])
    assert np.isposinf(result[17]).all()
    assert np.isposinf(result[:, 19]).all()
    assert (result[:17, :19] == 33).all()


@pytest.mark.parametrize(("micro_m", "micro_n"), [(32, 32), (16, 64), (48, 16)])
def test_a_product_of_tiles_loads_what_it_multiplies_and_spills_nothing(micro_m: int, micro_n: int) -> None:
    chosen = candidate("matmul m=96 n=256 k=256 act=bf16 weight=bf16", micro_m=micro_m, micro_n=micro_n, tile_n=1)
    assert_products_load_once_and_spill_nothing(chosen, "tdpbf16ps", micro_m // 16, micro_n // 16)


def test_kernels_say_which_features_they_need() -> None:
    workload = Workload.parse("matmul m=32 n=64 k=64 act=bf16 weight=bf16")
    tiles = candidate(str(workload))
    assert cpu.TILES & set(BACKEND.build(tiles).isa) == {"amx-bf16", "amx-tile"}
    pairs = candidate(str(workload), multiply="pairs", micro_m=8, tile_m=2)
    assert not cpu.TILES & set(BACKEND.build(pairs).isa)


def test_weights_whole_in_tiles_are_stored_once_for_pairs_and_tiles() -> None:
    for k, shared in ((64, True), (65, False)):
        workload = Workload.parse(f"matmul m=32 n=64 k={k} act=bf16 weight=bf16")
        ids = {Dense().weight_layout(workload, Schedule.of(micro_n=32, multiply=kind)) for kind in ("pairs", "tiles")}
        assert (len(ids) == 1) == shared


def test_panels_of_tiles_end_in_zeros() -> None:
    weight = np.ones((1, 35, 20), ml_dtypes.bfloat16)
    panels = layouts.pack(weight, 16, 2, 16).view(np.uint16).reshape(2, 32, 16, 2)
    inside = panels.transpose(1, 3, 0, 2).reshape(64, 32)
    assert (inside[:35, :20] == weight.view(np.uint16)[0]).all()
    assert not inside[35:].any()
    assert not inside[:, 20:].any()


@given(m=st.integers(1, 3000), n=st.integers(1, 3000), k=st.integers(1, 3000), threads=st.integers(1, 2))
@settings(max_examples=8, deadline=None, derandomize=True)
def test_default_is_a_point_of_the_space(m: int, n: int, k: int, threads: int) -> None:
    if threads > len(cpu.usable_cores()):
        return
    for right in ("weight", "rhs"):
        workload = Workload.parse(f"matmul m={m} n={n} k={k} act=bf16 {right}=bf16")
        space = BACKEND.space(workload, device(threads))
        assert is_valid(space, BACKEND.default(workload, device(threads)))
