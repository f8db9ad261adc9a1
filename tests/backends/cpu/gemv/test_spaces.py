"""The space offers what the device can run and nothing twice."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from fettle.backends.api import Candidate, Device, Schedule
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.gemv import Gemv, spaces
from fettle.backends.cpu.gemv.features import busiest_thread
from fettle.backends.cpu.gemv.plan import Plan
from fettle.backends.spaces import enumerate_space, is_valid
from fettle.graph.workload import Workload

GEMV = Gemv()
TEXTS = (
    "matmul m=1 n=4096 k=4096 act=f32 weight=u4:128",
    "matmul m=1 n=1 k=8 act=f32 weight=u1:8",
    "matmul m=7 n=40 k=100 act=f16 weight=u8:32:zp",
    "matmul m=512 n=4096 k=11008 act=bf16 weight=tern:row/f32",
    "matmul m=3 n=3200 k=3200 act=f32 weight=bip1:64 compute=f32",
)


def device(level: str, threads: int = 2, arch: str = "x86_64") -> Device:
    features = " ".join(sorted(cpu.LEVELS[level]))
    return Device("cpu", "", {"arch": arch, "isa": features, "L1d_bytes": 49152}, {"threads": threads})


@pytest.mark.parametrize("level", ["portable", "avx2", "avx512", "avx512vnni"])
@pytest.mark.parametrize("text", TEXTS)
def test_default_is_a_point_of_the_space(text: str, level: str) -> None:
    workload = Workload.parse(text)
    for threads in (1, 2, 3, 64):
        where = device(level, threads)
        assert is_valid(GEMV.space(workload, where), GEMV.default(workload, where))


@pytest.mark.parametrize("text", TEXTS)
def test_no_schedule_needs_what_the_device_lacks(text: str) -> None:
    workload = Workload.parse(text)
    for level, features in cpu.LEVELS.items():
        points = enumerate_space(GEMV.space(workload, device(level)))
        offered = {(points[i]["algorithm"], points[i]["isa"]) for i in range(len(points))}
        assert offered == set(spaces.pairs(workload, device(level)))
        for algorithm, isa in offered:
            assert any(needed <= features for needed in spaces.ISAS[algorithm, isa])


def test_int8_workloads_have_both_rivals_and_float_ones_only_dequantise() -> None:
    rounded, exact = Workload.parse(TEXTS[0]), Workload.parse(TEXTS[4])
    assert {a for a, _ in spaces.pairs(rounded, device("avx2"))} == {"integer", "lut"}
    assert {a for a, _ in spaces.pairs(exact, device("avx2"))} == {"dequantise"}
    assert spaces.pairs(rounded, device("portable")) == [("dequantise", "portable")]


@pytest.mark.parametrize("text", [TEXTS[1], TEXTS[2], TEXTS[4]])
def test_constraints_hold_what_they_promise_for_every_point(text: str) -> None:
    workload = Workload.parse(text)
    points = enumerate_space(GEMV.space(workload, device("avx512vnni")))
    assert len(points) > 0
    for i in range(len(points)):
        plan = Plan.of(workload, points[i])
        assert plan.tile % (plan.block_rows * plan.blocks) == 0
        assert plan.steps % plan.unroll == 0
        assert plan.batch <= plan.m
        assert plan.threads <= plan.tiles
        assert plan.blocks * plan.batch == 1 or plan.blocks * plan.batch * plan.parts * plan.accumulators <= 16
        assert (plan.preparation, plan.split) == ("private", "contiguous") or plan.threads > 1


def test_enumeration_is_what_brute_force_finds() -> None:
    workload, where = Workload.parse("matmul m=2 n=40 k=64 act=f32 weight=u4:32"), device("avx2")
    space = GEMV.space(workload, where)
    names = space.names
    codes = [compile(c.expression, "constraint", "eval") for c in space.constraints]
    rows = itertools.product(*(p.choices for p in space.parameters))
    valid = {
        row
        for row in rows
        if all(eval(code, {"__builtins__": {}}, dict(zip(names, row, strict=True))) for code in codes)
    }
    points = enumerate_space(space)
    assert {tuple(points[i][name] for name in names) for i in range(len(points))} == valid


def test_tiles_pad_little() -> None:
    for n in (4096, 11008, 3200, 8640, 33):
        workload = Workload.parse(f"matmul m=1 n={n} k=64 act=f32 weight=u4:32")
        tiles = next(p for p in GEMV.space(workload, device("avx512vnni")).parameters if p.name == "tile").choices
        for tile in tiles:
            assert tile <= 32 or -(-n // int(tile)) * int(tile) <= 1.125 * (n + 15)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("matmul m=1 n=64 k=64 act=f32 weight=f32", "only quantised weights"),
        ("matmul m=1 n=64 k=64 act=f32 rhs=f32", "only quantised weights"),
        ("matmul m=1 n=65536 k=65536 act=f32 weight=u8:128", "2^31"),
    ],
)
def test_refusals_say_why(text: str, reason: str) -> None:
    support = GEMV.supports(Workload.parse(text), device("avx2"))
    assert not support
    assert reason in support.reason


def test_a_language_models_largest_matrix_is_supported() -> None:
    workload = Workload.parse("matmul m=1 n=128256 k=16384 act=f32 weight=u4:128")
    assert GEMV.supports(workload, device("avx512vnni"))


@pytest.mark.parametrize("text", TEXTS)
def test_features_are_finite_and_tell_schedules_of_different_work_apart(text: str) -> None:
    workload, where = Workload.parse(text), device("avx512vnni")
    points = enumerate_space(GEMV.space(workload, where))
    for index in points.sample(np.random.default_rng(0), 40):
        schedule = points[index]
        here = GEMV.features(Candidate(workload, where, schedule))
        assert all(np.isfinite(value) for value in here.values())
        for other in (points[i] for i in points.neighbours(index)):
            (changed,) = (name for name, value in schedule.values if other[name] != value)
            if changed in ("algorithm", "isa", "unroll", "preparation"):
                assert GEMV.features(Candidate(workload, where, other)) != here, changed


def test_doubling_threads_halves_the_work_of_each() -> None:
    workload, where = Workload.parse(TEXTS[0]), device("avx512vnni")
    two = GEMV.default(workload, where)
    one = Schedule.of(**(two.as_dict() | {"threads": 1}))
    a, b = (busiest_thread(Plan.of(workload, s)) for s in (one, two))
    for cause in ("product", "addition", "epilogue", "control"):
        assert a[cause] == pytest.approx(2.0 * b[cause])
    assert a["threads"] == 0.0 < b["threads"]
    assert a["all"] < 2.0 * b["all"]


def test_the_estimate_is_of_the_order_of_a_kernel_that_reads_its_weights_once() -> None:
    workload, where = Workload.parse(TEXTS[0]), device("avx512vnni")
    seconds = GEMV.estimate(Candidate(workload, where, GEMV.default(workload, where)))
    assert seconds is not None
    assert workload.nbytes / 500e9 < seconds < workload.nbytes / 5e9


@pytest.mark.parametrize(("bits", "is_tried"), [(1, True), (3, True), (4, False), (8, False)])
def test_half_tables_are_tried_where_they_take_fewer_instructions_than_dot_products(bits: int, is_tried: bool) -> None:
    weight = "bip1:128" if bits == 1 else f"u{bits}:128"
    workload = Workload.parse(f"matmul m=1 n=256 k=256 act=f32 weight={weight}")
    parameters = {p.name: p.choices for p in GEMV.space(workload, device("avx512vnni")).parameters}
    assert ("mirror" in parameters["algorithm"]) == is_tried


@pytest.mark.parametrize(
    ("level", "isas"),
    [("portable", {"portable"}), ("avx2", {"avx2"}), ("avx512", {"avx512bw", "avx2"})],
)
def test_ternary_weights_have_look_ups_of_three_digits_on_every_instruction_set(level: str, isas: set[str]) -> None:
    workload = Workload.parse("matmul m=1 n=256 k=256 act=f32 weight=tern:128")
    offered = spaces.pairs(workload, device(level))
    assert {isa for algorithm, isa in offered if algorithm == "triplets"} == isas
    untuned = GEMV.default(workload, device(level))["algorithm"]
    assert untuned == ("dequantise" if level == "portable" else "triplets")
    two_bits = Workload.parse("matmul m=1 n=256 k=256 act=f32 weight=u2:128")
    assert "triplets" not in {algorithm for algorithm, _ in spaces.pairs(two_bits, device(level))}


@pytest.mark.parametrize(
    ("weight", "n", "is_choice"),
    [
        ("u4:128", 1024, False),  # 0.5 MB fill no huge page
        ("bip1:128", 4096, True),
        ("u2:128", 3200, True),
        ("u4:128", 4096, False),  # from 4 MB on NumPy asks for huge pages itself
    ],
)
def test_huge_pages_are_a_choice_where_they_are_no_matter_of_course(weight: str, n: int, is_choice: bool) -> None:
    workload = Workload.parse(f"matmul m=1 n={n} k={n} act=f32 weight={weight}")
    parameters = {p.name: p.choices for p in GEMV.space(workload, device("avx512vnni")).parameters}
    assert parameters["pages"] == (("system", "huge") if is_choice else ("system",))
    assert GEMV.default(workload, device("avx512vnni"))["pages"] == "system"
