"""Products of many rows with quantised weights on tiles, against the reference, VNNI and the weights of one row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fettle.backends.api import Candidate, Schedule
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.gemm.plan import GemmPlan
from fettle.backends.spaces import enumerate_space, is_valid
from fettle.graph import data
from fettle.graph.quantized import QuantizedWeight
from fettle.graph.workload import Workload
from tests.backends.cpu.amx.support import (
    BACKEND,
    Built,
    assert_products_load_once_and_spill_nothing,
    blocks,
    candidate,
    count,
    device,
)

FORMATS = ("u1", "u2", "u3", "u4", "u5", "u6", "u7", "u8", "tern", "bip1")
SMALL = {"tile": 32, "interleave": 1, "panel": 16, "vectors": 1}


@pytest.mark.parametrize("order", ["fields", "planes"])
@pytest.mark.parametrize("kind", ["u2", "u3", "u4", "u8", "tern", "bip1"])
def test_every_format_is_within_tolerance(order: str, kind: str) -> None:
    zeros = "sums" if kind == "u8" else "codes"
    text = f"matmul m=19 n=50 k=150 act=f32 weight={kind}:64"
    assert Built.of(candidate(text, order=order, rows=10, zeros=zeros, **SMALL)).error() <= 1


@given(choose=st.data())
@settings(max_examples=14, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
def test_any_schedule_of_any_shape_is_right(choose: st.DataObject) -> None:
    kind = choose.draw(st.sampled_from(FORMATS))
    group = choose.draw(st.sampled_from(["12", "32", "64", "96", "row"]))
    suffix = choose.draw(st.sampled_from(["", "/f32"] if kind in ("tern", "bip1") else ["", ":zp", ":zp/f32"]))
    act, out = (choose.draw(st.sampled_from(["f32", "f16", "bf16"])) for _ in range(2))
    m, n, k = choose.draw(st.integers(8, 40)), choose.draw(st.integers(1, 90)), choose.draw(st.integers(1, 300))
    text = f"matmul m={m} n={n} k={k} act={act} weight={kind}:{group}{suffix} out={out}"
    workload, where = Workload.parse(text), device()
    points = enumerate_space(BACKEND.space(workload, where))
    schedule = choose.draw(
        st.integers(0, len(points) - 1).map(lambda i: points[i]).filter(lambda point: point["algorithm"] == "amx")
    )
    assert Built.of(Candidate(workload, where, schedule)).error() <= 1


@pytest.mark.parametrize("kind", ["u8:row", "u4:row:zp"])
def test_groups_longer_than_a_slab_keep_exact_sums(kind: str) -> None:
    assert Built.of(candidate(f"matmul m=9 n=40 k=1300 act=f32 weight={kind}")).error() <= 1


def test_more_rows_than_a_band_are_all_written() -> None:
    assert Built.of(candidate("matmul m=131 n=17 k=64 act=bf16 weight=u4:64")).error() <= 1


@pytest.mark.parametrize(("kind", "zeros"), [("u4", "codes"), ("u4", "sums"), ("u7:row:zp", "sums"), ("u8", "sums")])
def test_sums_of_the_largest_codes_and_activations_do_not_saturate(kind: str, zeros: str) -> None:
    kind = kind if ":" in kind else f"{kind}:row"
    built = Built.of(candidate(f"matmul m=8 n=32 k=1024 act=f32 weight={kind}/f32", zeros=zeros))
    fmt = built.workload["weight"]
    top, zero = fmt.levels - 1, np.uint8(3)
    zero_points = np.full((32, 1), zero) if fmt.zero_points else None
    weight = QuantizedWeight(fmt, np.full((32, 1024), top, np.uint8), np.ones((32, 1), np.float32), zero_points)
    expected = 1024 * (top - (float(zero) if fmt.zero_points else fmt.zero_point))
    for sign in (1, -1):
        result = built([np.full((8, 1024), sign, np.float32), weight])
        np.testing.assert_allclose(result, sign * expected, rtol=1e-5)


@pytest.mark.skipif(len(cpu.usable_cores()) < 2, reason="needs two cores")
def test_two_threads_have_tiles_of_their_own() -> None:
    text = "matmul m=20 n=100 k=128 act=f32 weight=u3:32"
    operands = data.operands(Workload.parse(text), 0)
    one, two = (Built.of(candidate(text, threads)) for threads in (1, 2))
    assert two.artifact.schedule["threads"] == 2
    np.testing.assert_array_equal(one(operands), two(operands))


@pytest.mark.parametrize(("kind", "zeros"), [("u4:64:zp", "codes"), ("u8:32:zp", "sums")])
def test_tiles_and_dot_products_give_the_same_bits_whatever_m(kind: str, zeros: str) -> None:
    text = f"matmul m={{}} n=40 k=200 act=f32 weight={kind} invariant=true"
    x, weight = data.operands(Workload.parse(text.format(17)), 0)
    rows = np.asarray(x)
    vnni = Built.of(candidate(text.format(17), algorithm="vnni", rows=9, zeros="sums"))([x, weight])
    for m in (1, 17):
        tiles = candidate(text.format(m), algorithm="amx", rows=min(m, 9), zeros=zeros)
        np.testing.assert_array_equal(Built.of(tiles)([rows[:m], weight]), vnni[:m])


@pytest.mark.parametrize(("kind", "order"), [("u4:32:zp", "fields"), ("u8:64", "fields"), ("u3:64", "planes")])
def test_the_arrays_packed_for_one_row_serve_tiles(kind: str, order: str) -> None:
    one = Workload.parse(f"matmul m=1 n=70 k=200 act=f32 weight={kind}")
    start = BACKEND.default(one, device()).as_dict() | {"isa": "avx512", "tile": 32, "unroll": 1, "blocks": 1}
    algorithm = "integer" if order == "fields" else "lut"
    gemv = Built.of(Candidate(one, device(), Schedule.of(**(start | {"algorithm": algorithm, "batch": 1}))))
    many = Built.of(candidate(str(one).replace("m=1 ", "m=16 "), order=order, rows=16, unroll=1, **SMALL))
    assert many.artifact.schedule["algorithm"] == "amx"
    assert gemv.artifact.weight_layout == many.artifact.weight_layout
    x, weight = data.operands(many.workload, 0)
    packed = gemv.kernel.pack([weight])
    reference = data.reference(many.workload, [x, weight])
    for result in (many([x, weight], packed), gemv([np.asarray(x)[:1], weight], packed)):
        rows = slice(0, result.shape[0])
        assert (np.abs(result - reference.expected[rows]) <= reference.tolerance[rows]).all()


@pytest.mark.parametrize(("rows", "vectors"), [(32, 2), (48, 1), (16, 4)])
def test_a_product_of_tiles_loads_what_it_multiplies_and_spills_nothing(rows: int, vectors: int) -> None:
    chosen = candidate(
        "matmul m=96 n=256 k=512 act=f32 weight=u4:512",
        rows=rows,
        vectors=vectors,
        tile=64,
        panel=64,
        zeros="codes",
    )
    assert_products_load_once_and_spill_nothing(chosen, "tdpbssd", rows // 16, vectors)


def test_scaling_a_group_is_three_vector_instructions_a_vector() -> None:
    chosen = candidate("matmul m=64 n=64 k=256 act=f32 weight=u4:128", rows=32, panel=32, zeros="codes")
    loops = [block for block in blocks(chosen, "vcvtdq2ps") if count(block, "vfmadd")]
    assert loops
    for loop in loops:
        vectors = count(loop, "vcvtdq2ps")
        assert count(loop, "vfmadd") == count(loop, "vmulps") == count(loop, "vmovups") == vectors
        assert count(loop, "vpadd") == 0


def test_bytes_are_loaded_as_tiles_from_where_they_are_packed() -> None:
    text = "matmul m=64 n=64 k=256 act=f32 weight={}:256"
    bytes_, nibbles = (blocks(candidate(text.format(kind), rows=32), "vpand") for kind in ("u8", "u4"))
    assert len(bytes_) < len(nibbles)
    chosen = candidate(text.format("u8"), rows=32)
    assert not GemmPlan.of(chosen.workload, chosen.schedule).is_staged
    assert blocks(chosen, "tdpbsud")


def test_kernels_configure_tiles_and_let_them_go() -> None:
    chosen = candidate("matmul m=16 n=64 k=256 act=f32 weight=u4:128")
    for mnemonic in ("ldtilecfg", "tilerelease"):
        assert sum(count(block, mnemonic) for block in blocks(chosen, mnemonic)) == 1
    assert cpu.TILES & set(BACKEND.build(chosen).isa) == {"amx-int8", "amx-tile"}


@given(m=st.integers(1, 600), k=st.integers(1, 5000), group=st.sampled_from(["32", "128", "row"]))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_every_height_of_tiles_fits_the_registers(m: int, k: int, group: str) -> None:
    workload = Workload.parse(f"matmul m={m} n=64 k={k} act=f32 weight=u4:{group} invariant=true")
    space = BACKEND.space(workload, device())
    start = BACKEND.default(workload, device())
    assert is_valid(space, start)
    heights = next(p.choices for p in space.parameters if p.name == "rows")
    for rows in heights:
        schedule = Schedule.of(**(start.as_dict() | {"algorithm": "amx", "rows": rows, "vectors": 1}))
        if is_valid(space, schedule):
            plan = GemmPlan.of(workload, schedule)
            assert plan.tiles_down * plan.tile_rows == plan.rows
            assert plan.tile_rows <= 16
            assert plan.padded_m >= m
            full, tail = plan.slabs
            widths = [plan.slab_steps * bool(full), tail]
            assert all(w * plan.packed.step_k % plan.tile_k == 0 for w in widths)
            assert 2 * plan.tiles_down + 1 <= 8
