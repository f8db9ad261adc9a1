"""Packing: every code is where the line order says, padding holds nothing, equal ids mean equal bytes."""

from __future__ import annotations

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fettle.backends.api import Schedule
from fettle.backends.cpu.gemv import Gemv, entries, layouts
from fettle.backends.cpu.gemv.plan import Plan
from fettle.graph import data
from fettle.graph.errors import InvalidArgument
from fettle.graph.quantized import QuantizedWeight
from fettle.graph.workload import Workload

INNER_LOOPS = (("integer", "avx512"), ("integer", "avx2"), ("lut", "avx512"), ("lut", "avx2"))
"""Each has its own line order; the 64 rows of ``("lut", "avx512bw")`` are those of AVX2 twice."""


def schedule(algorithm: str, isa: str, tile: int = 32, **rest: int) -> Schedule:
    values = {"blocks": 1, "batch": 1, "unroll": 1, "prefetch": 0, "threads": 1, **rest}
    return Schedule.of(algorithm=algorithm, isa=isa, tile=tile, preparation="private", **values)


def weight_of(workload: Workload) -> QuantizedWeight:
    weight = data.operands(workload, 0)[1]
    assert isinstance(weight, QuantizedWeight)
    return weight


def stored_code(packed: np.ndarray, plan: Plan, row: int, k: int) -> int:
    """Read one code back, bit by bit, from the formulas in the docstrings of ``plan`` and ``layouts``."""
    together = plan.blocks * plan.block_rows
    lines = packed.reshape(
        plan.tiles, plan.groups, plan.tile // together, plan.steps, plan.planes, plan.blocks, plan.line_bytes
    )
    group, inside = divmod(k, plan.group)
    step, rest = divmod(inside, plan.step_k)
    superblock, inside = divmod(row % plan.tile, together)
    block = lines[row // plan.tile, group, superblock, step, :, inside // plan.block_rows]
    r = row % plan.block_rows
    if not plan.is_lut:
        field, j = divmod(rest, 4)
        return int(block[0, 4 * r + j]) >> (field * plan.field) & ((1 << plan.field) - 1)
    half, quad = divmod(rest // 4, plan.step_k // 8)
    place = r if plan.rows_across else 4 * r + quad
    return sum((int(block[plane, place]) >> (4 * half + rest % 4) & 1) << plane for plane in range(plan.planes))


@given(
    st.sampled_from(INNER_LOOPS),
    st.sampled_from(["u1", "u2", "u3", "u4", "u5", "u8", "tern", "bip1"]),
    st.sampled_from(["8", "20", "32", "row"]),
    st.integers(1, 70),
    st.integers(1, 90),
    st.sampled_from([1, 2, 4]),
)
@settings(max_examples=60, deadline=None)
def test_every_code_is_where_the_line_order_says(
    pair: tuple[str, str], kind: str, group: str, n: int, k: int, blocks: int
) -> None:
    workload = Workload.parse(f"matmul m=1 n={n} k={k} act=f32 weight={kind}:{group}")
    plan, weight = Plan.of(workload, schedule(*pair, tile=32 * blocks, blocks=blocks)), weight_of(workload)
    packed = layouts.pack(weight, plan)[0]
    read = [[stored_code(packed, plan, row, column) for column in range(k)] for row in range(n)]
    np.testing.assert_array_equal(read, weight.codes)


@given(st.sampled_from(INNER_LOOPS), st.integers(1, 70), st.integers(1, 90))
@settings(max_examples=30, deadline=None)
def test_padding_stores_nothing(pair: tuple[str, str], n: int, k: int) -> None:
    workload = Workload.parse(f"matmul m=1 n={n} k={k} act=f32 weight=u4:20:zp")
    plan, weight = Plan.of(workload, schedule(*pair)), weight_of(workload)
    codes, scales, zero_points = layouts.pack(weight, plan)
    ones = int(np.bitwise_count(codes).sum(dtype=np.int64))
    assert ones == int(np.bitwise_count(weight.codes).sum(dtype=np.int64))
    assert np.count_nonzero(scales) == weight.scales.size
    assert zero_points.sum() == weight.zero_points.sum() if weight.zero_points is not None else False


@pytest.mark.parametrize(("algorithm", "isa"), INNER_LOOPS)
def test_scales_and_zero_points_are_in_tile_group_row_order(algorithm: str, isa: str) -> None:
    workload = Workload.parse("matmul m=1 n=100 k=90 act=f32 weight=u4:32:zp/f32")
    plan, weight = Plan.of(workload, schedule(algorithm, isa)), weight_of(workload)
    _, scales, zero_points = layouts.pack(weight, plan)
    assert weight.zero_points is not None
    for row in (0, 31, 32, 99):
        for group in range(3):
            place = (row // 32 * 3 + group) * 32 + row % 32
            assert scales[place] == weight.scales[row, group]
            assert zero_points[place] == weight.zero_points[row, group]


@pytest.mark.parametrize(("algorithm", "isa"), INNER_LOOPS)
@pytest.mark.parametrize("kind", ["u1:128", "u2:64", "u4:32:zp", "tern:128", "u4:row/f32"])
def test_without_padding_only_the_formats_own_bits_are_stored(algorithm: str, isa: str, kind: str) -> None:
    workload = Workload.parse(f"matmul m=1 n=128 k=256 act=f32 weight={kind}")
    plan = Plan.of(workload, schedule(algorithm, isa))
    packed = layouts.pack(weight_of(workload), plan)
    weight_format, groups = workload["weight"], workload["weight"].groups(256)
    scales = 128 * groups * weight_format.scale_dtype.itemsize
    zero_points = 128 * groups if weight_format.zero_points else 0
    assert sum(a.nbytes for a in packed) == 128 * 256 * weight_format.bits // 8 + scales + zero_points
    assert sum(a.nbytes for a in packed) == plan.packed_bytes
    assert all(a.ctypes.data % 64 == 0 and a.flags.c_contiguous for a in packed)


def test_layout_ids_are_equal_exactly_when_the_bytes_are() -> None:
    workload = Workload.parse("matmul m=2 n=128 k=256 act=f32 weight=u4:64")
    family, weight = Gemv(), weight_of(workload)
    schedules = [
        schedule(algorithm, isa, tile, blocks=blocks, unroll=unroll, prefetch=prefetch)
        for algorithm, isa in (*INNER_LOOPS, ("integer", "avxvnni"))
        for tile in (64, 128)
        for blocks, unroll, prefetch in ((1, 1, 0), (1, 4, 1024), (2, 4, 1024))
    ]
    seen: dict[str, bytes] = {}
    for choice in schedules:
        content = b"".join(a.tobytes() for a in family.pack(workload, choice, [weight]))
        assert seen.setdefault(family.weight_layout(workload, choice), content) == content
    assert len(seen) == len(set(seen.values())) == 12


def test_widening_a_field_keeps_the_codes() -> None:
    """u3 codes are stored in 4-bit fields for ``integer``: the same bytes as a u4 weight with these codes."""
    three = Workload.parse("matmul m=1 n=32 k=64 act=f32 weight=u3:32")
    four = Workload.parse("matmul m=1 n=32 k=64 act=f32 weight=u4:32")
    weight = weight_of(three)
    wider = attrs.evolve(weight, format=four["weight"])
    choice = schedule("integer", "avx512")
    np.testing.assert_array_equal(
        layouts.pack(weight, Plan.of(three, choice))[0], layouts.pack(wider, Plan.of(four, choice))[0]
    )


def stored_octet(byte: int) -> int:
    """The bits an octet's byte stands for: itself where the sign is set, else its mirror image's complement."""
    return byte if byte & 0x80 else byte ^ 0x7F


def stored_quintet(byte: int) -> int:
    """The value Σ t_i·3^i a quintet's byte stands for."""
    value = sum(t * 3**i for i, t in enumerate(entries.QUINTETS.entry(byte & 0x7F)))
    return value * (1 if byte & 0x80 else -1)


@given(st.sampled_from(["bip1", "u3", "tern"]), st.sampled_from(["40", "80", "row"]), st.integers(1, 64), st.data())
@settings(max_examples=30, deadline=None)
def test_half_table_bytes_hold_every_code(kind: str, group: str, n: int, draw: st.DataObject) -> None:
    workload = Workload.parse(f"matmul m=1 n={n} k=160 act=f32 weight={kind}:{group}")
    plan, weight = Plan.of(workload, schedule("mirror", "avx512", 64)), weight_of(workload)
    lines = layouts.pack(weight, plan)[0].reshape(plan.groups, plan.planes, plan.steps, 64)
    row, step = draw.draw(st.integers(0, n - 1)), draw.draw(st.integers(0, 160 // plan.step_k - 1))
    group_index, inside = divmod(step, plan.steps)
    quarter, within = divmod(row, 16)
    stored = lines[group_index, ::-1, inside, 4 * within + quarter]
    codes = weight.codes[row, step * plan.step_k : (step + 1) * plan.step_k].astype(int)
    if kind == "tern":
        assert stored_quintet(int(stored[0])) == sum((c - 1) * 3**i for i, c in enumerate(codes))
    else:
        for plane in range(plan.planes):
            assert stored_octet(int(stored[plane])) == sum((c >> plane & 1) << i for i, c in enumerate(codes))


@given(st.sampled_from(["avx512", "avx2", "portable"]), st.sampled_from(["8", "50", "row"]), st.data())
@settings(max_examples=30, deadline=None)
def test_triplets_hold_every_code(isa: str, group: str, draw: st.DataObject) -> None:
    n, k = draw.draw(st.integers(1, 100)), draw.draw(st.integers(1, 200))
    workload = Workload.parse(f"matmul m=1 n={n} k={k} act=f32 weight=tern:{group}")
    plan, weight = Plan.of(workload, schedule("triplets", isa, 128, blocks=2)), weight_of(workload)
    rows, row, column = plan.block_rows, draw.draw(st.integers(0, n - 1)), draw.draw(st.integers(0, k - 1))
    lines = layouts.pack(weight, plan)[0].reshape(plan.tiles, plan.groups, -1, plan.group_lines, 2, rows)
    group_index, inside = divmod(column, plan.group)
    superblock, in_superblock = divmod(row % 128, 2 * rows)
    quarter, within = divmod(in_superblock % rows, rows // 4)
    step, triplet = divmod(inside // 3, 8)
    stored = lines[row // 128, group_index, superblock, 5 * step :, in_superblock // rows, 4 * within + quarter]
    index = int(stored[1 + triplet // 2]) >> 4 * (triplet % 2) & 15
    value = index if int(stored[0]) >> 7 - triplet & 1 else -index
    digits = [(value + 13) // 3**i % 3 for i in range(3)]
    assert digits[inside % 3] == weight.codes[row, column]


def test_every_value_of_five_digits_has_an_entry_of_its_own() -> None:
    assert len(set(entries.QUINTET_NUMBERS.tolist())) == 122
    for value, number in enumerate(entries.QUINTET_NUMBERS):
        found = entries.QUINTETS.entry(number)
        assert set(found) <= {-1, 0, 1}
        assert sum(t * 3**i for i, t in enumerate(found)) == value


def test_entries_of_octets_are_the_signs_of_their_numbers() -> None:
    for number in range(128):
        assert entries.OCTETS.entry(number) == (*(1 if number >> i & 1 else -1 for i in range(7)), 1)


@pytest.mark.parametrize(
    ("kind", "algorithm", "bits"),
    [
        ("tern", "mirror", 8 * 26 / 128),
        ("tern", "triplets", 8 * (5 * 5 + 3) / 128),
        ("bip1", "mirror", 1),
        ("u3", "mirror", 3),
        ("tern", "lut", 2),
        ("u3", "lut", 3),
    ],
)
def test_bits_per_weight_are_the_formats_and_padding_only(kind: str, algorithm: str, bits: float) -> None:
    """Ternary: 26 bytes of five digits hold 128, 1.625 bits a weight; 43 triplets are 5 times 4 bytes of indices
    and one of signs, and 2 and one of the last three, 1.75 bits; a float16 scale adds 1/8."""
    workload = Workload.parse(f"matmul m=1 n=128 k=4096 act=f32 weight={kind}:128")
    packed = layouts.pack(weight_of(workload), Plan.of(workload, schedule(algorithm, "avx512", 64)))
    assert sum(a.nbytes for a in packed) * 8 / (128 * 4096) == bits + 1 / 8


def test_planes_of_a_binary_coded_weight_alternate_group_by_group() -> None:
    coded = Workload.parse("matmul m=1 n=64 k=256 act=f32 weight=bcq3:64")
    weight = weight_of(coded)
    choice = schedule("lut", "avx512", 64)
    codes, scales = layouts.pack(weight, Plan.of(coded, choice))
    plain = Workload.parse("matmul m=1 n=64 k=256 act=f32 weight=bip1:64")
    for plane in range(3):
        bits = QuantizedWeight(plain["weight"], weight.codes >> plane & 1, weight.scales[..., plane].copy())
        alone, its_scales = layouts.pack(bits, Plan.of(plain, choice))
        np.testing.assert_array_equal(codes.reshape(4, 3, -1)[:, plane].reshape(-1), alone)
        np.testing.assert_array_equal(scales.reshape(4, 3, -1)[:, plane].reshape(-1), its_scales)


@pytest.mark.parametrize("other", ["n=16 k=64 act=f32 weight=u4:32", "n=32 k=64 act=f32 weight=u2:32"])
def test_weights_of_another_shape_or_format_are_refused(other: str) -> None:
    workload = Workload.parse("matmul m=1 n=32 k=64 act=f32 weight=u4:32")
    weight = weight_of(Workload.parse(f"matmul m=1 {other}"))
    plan = Plan.of(workload, schedule("integer", "avx2"))
    with pytest.raises(InvalidArgument, match=r"quantised u4:32.* \(32, 64\)"):
        layouts.packed_constants(workload, [weight], plan)
