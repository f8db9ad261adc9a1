"""Attention kernels: within the declared tolerance for every schedule, shape and instruction set tried."""

from __future__ import annotations

import functools
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fettle.backends.api import Candidate, Device, DeviceText, LoadedKernel, Schedule
from fettle.backends.cpu import CpuBackend, codegen
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.attention import Attention
from fettle.backends.cpu.attention.plan import DOTS_BF16, DOTS_I8
from fettle.backends.spaces import enumerate_space, why_invalid
from fettle.graph import data
from fettle.graph.errors import BuildFailure
from fettle.graph.workload import Workload
from tests.backends.cpu.errors import largest_error

BACKEND = CpuBackend()
FAMILY = Attention()
LEVELS = ["", *(level for level, isa in cpu.LEVELS.items() if isa <= cpu.Machine.detect().features)]
"""The whole machine, and every restriction of it."""

FLOAT_LEVELS = [level for level in LEVELS if level != "avx512vnni"]
"""Those that differ in instructions for floats."""

needs_dots = pytest.mark.skipif(not cpu.Machine.detect().features >= DOTS_I8, reason="no dot products of bytes here")
needs_bf16 = pytest.mark.skipif(DOTS_BF16 not in cpu.Machine.detect().features, reason="no bf16 dot products here")


def device_of(level: str, threads: int = 1) -> Device:
    options = (("threads", str(threads)), *([("isa", level)] if level else []))
    return BACKEND.device(DeviceText("cpu", "", options))


def schedule_of(workload: Workload, device: Device, **changes: object) -> Schedule:
    values = FAMILY.default(workload, device).as_dict() | changes
    return Schedule(tuple(values.items()))  # type: ignore[arg-type]


@functools.lru_cache(maxsize=1)
def loaded(candidate: Candidate) -> LoadedKernel:
    """Built once for all runs of a test."""
    return BACKEND.load(BACKEND.build(candidate))


def run(workload: Workload, device: Device, schedule: Schedule, operands: list[np.ndarray]) -> np.ndarray:
    """The result, in an array of NaN between two guards that must stay untouched."""
    kernel = loaded(Candidate(workload, device, schedule))
    result = workload.result
    room = np.full(result.size + 64, np.nan, result.format.dtype)
    out = room[32 : 32 + result.size].reshape(result.shape)
    kernel.run(operands, [], out)
    assert np.isnan(room[:32].astype(np.float32)).all()
    assert np.isnan(room[32 + result.size :].astype(np.float32)).all()
    return out.astype(np.float64)


def sampled(workload: Workload) -> list[np.ndarray]:
    return [np.asarray(o) for o in data.operands(workload, 3)]


def error_ratio(workload: Workload, device: Device, schedule: Schedule) -> float:
    operands = sampled(workload)
    return largest_error(workload, operands, run(workload, device, schedule, operands))


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    kv_heads, group = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    kv, causal = draw(st.integers(1, 200)), draw(st.booleans())
    dim = draw(st.sampled_from([8, 9, 16, 24, 31, 32, 33, 40, 64, 80, 96, 100, 128]))
    caches = ["f32", "bf16", "u8:8/f32", "u8:64/f32", *([] if dim % 2 else ["u4:32/f32"])]
    q = draw(st.one_of(st.integers(1, 4), st.integers(1, 60)).filter(lambda q: q <= kv or not causal))
    batch, heads = draw(st.integers(1, 2)), kv_heads * group
    extents = [draw(st.sampled_from([1, extent])) for extent in (batch, heads, q)]
    masks = {"mask": "x".join(map(str, (*extents, kv))), "scale": 0.25}
    return Workload.of(
        "attention",
        **(draw(st.sampled_from([{}, masks]))),
        batch=batch,
        heads=heads,
        kv_heads=kv_heads,
        q=q,
        kv=kv,
        dim=dim,
        act=draw(st.sampled_from(["f32", "bf16"])),
        kvcache=draw(st.sampled_from(caches)),
        causal="true" if causal else "false",
    )


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(workloads(), st.sampled_from(LEVELS), st.integers(1, 2), st.integers(0, 2**32))
def test_any_schedule_of_any_shape_is_within_tolerance(workload: Workload, level: str, threads: int, seed: int) -> None:
    device = device_of(level, min(threads, cpu.Machine.detect().cores))
    points = enumerate_space(FAMILY.space(workload, device))
    schedule = points[points.sample(np.random.default_rng(seed), 1)[0]]
    assert error_ratio(workload, device, schedule) <= 1


@pytest.mark.parametrize("level", FLOAT_LEVELS)
@pytest.mark.parametrize(
    "text",
    [
        "attention heads=8 kv_heads=2 q=1 kv=300 dim=128 act=bf16 causal=true",
        "attention heads=4 kv_heads=2 q=3 kv=67 dim=64 act=f32 causal=true",
        "attention heads=4 kv_heads=2 q=50 kv=131 dim=72 act=bf16 causal=true",
        "attention heads=2 q=40 kv=33 dim=48 act=f32 kvcache=bf16",
        "attention heads=4 kv_heads=2 q=1 kv=100 dim=46 act=bf16 kvcache=u4:32/f32",
        "attention heads=2 q=20 kv=35 dim=48 act=f32 kvcache=u8:16/f32",
    ],
)
def test_default_is_within_tolerance(text: str, level: str) -> None:
    workload, device = Workload.parse(text), device_of(level)
    assert error_ratio(workload, device, FAMILY.default(workload, device)) <= 1


@pytest.mark.parametrize(
    "text",
    [
        "attention batch=2 heads=4 kv_heads=2 q=2 kv=67 dim=64 act=f32 mask=2x1x2x67",
        "attention batch=2 heads=6 kv_heads=2 q=20 kv=300 dim=32 act=f32 mask=1x6x20x300 scale=0.5",
        "attention batch=2 heads=2 q=20 kv=64 dim=48 act=bf16 mask=2x1x1x64 causal=true",
    ],
)
def test_masks_are_added_to_the_logits_they_are_broadcast_to(text: str) -> None:
    workload, device = Workload.parse(text), device_of("")
    assert error_ratio(workload, device, FAMILY.default(workload, device)) <= 1


@pytest.mark.parametrize("level", [FLOAT_LEVELS[0], FLOAT_LEVELS[-1]])
@pytest.mark.parametrize("q", [3, 40])
def test_masks_that_hide_all_keys_leave_nothing_and_lowest_numbers_all_keys_alike(q: int, level: str) -> None:
    workload = Workload.parse(f"attention heads=2 q={q} kv=600 dim=16 act=f32 mask=1x1x{q}x600")
    queries, k, v, mask = sampled(workload)
    mask[...] = 0.0
    mask[0, 0, 0] = -np.inf
    mask[0, 0, 1] = np.finfo(np.float32).min  # how PyTorch's older models hide keys
    device = device_of(level)
    y = run(workload, device, schedule_of(workload, device), [queries, k, v, mask])
    assert (y[:, :, 0] == 0.0).all()
    np.testing.assert_allclose(y[:, :, 1], v.astype(np.float64).mean(axis=2), atol=1e-5)
    logits = np.einsum("bhqd,bhkd->bhqk", queries, k)[:, :, 2:].astype(np.float64) / 4.0
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    expected = (weights / weights.sum(axis=-1, keepdims=True)) @ v.astype(np.float64)
    np.testing.assert_allclose(y[:, :, 2:], expected, atol=1e-4)


@pytest.mark.skipif(cpu.Machine.detect().cores < 2, reason="one core")
@pytest.mark.parametrize("block", [12, 24, 48])  # four, two and one blocks for each head, the last one short
def test_threads_share_the_blocks_of_every_head(block: int) -> None:
    workload, device = Workload.parse("attention heads=3 q=46 kv=40 dim=32 act=f32"), device_of("", 2)
    schedule = Schedule.of(**(FAMILY.default(workload, device).as_dict() | {"algorithm": "tiles", "block": block}))
    assert schedule["threads"] == 2
    assert error_ratio(workload, device, schedule) <= 1


CASES = {
    "split": "attention heads=4 kv_heads=2 q=2 kv=200 dim=32 act={} causal=true",
    "tiles": "attention heads=4 kv_heads=2 q=30 kv=200 dim=32 act={} causal=true",
}


@pytest.mark.parametrize("act", ["f32", "bf16"])
@pytest.mark.parametrize("algorithm", CASES)
def test_large_logits_pick_the_matching_key_and_nothing_overflows(algorithm: str, act: str) -> None:
    workload = Workload.parse(CASES[algorithm].format(act))
    device = device_of("")
    q, k, v = (np.asarray(o).astype(np.float32) for o in sampled(workload))
    position = workload["kv"] - workload["q"]  # visible to every query
    q[...] = np.sign(q) * 1000.0
    k[:, :, position] = np.sign(q[:, ::2, 0])  # its own head's first query agrees with it in every element
    operands = [x.astype(t.format.dtype) for x, t in zip((q, k, v), workload.operands, strict=True)]
    y = run(workload, device, schedule_of(workload, device), operands)
    right = data.reference(workload, operands)
    assert np.isfinite(y).all()
    assert (np.abs(y - right.expected) <= right.tolerance).all()
    np.testing.assert_allclose(y[:, ::2, 0], operands[2].astype(np.float64)[:, :, position], rtol=1e-6)


@pytest.mark.parametrize("algorithm", CASES)
def test_causal_results_ignore_later_keys(algorithm: str) -> None:
    workload = Workload.parse(CASES[algorithm].format("f32"))
    device = device_of("")
    operands = sampled(workload)
    before = run(workload, device, schedule_of(workload, device), operands)
    changed = [o.copy() for o in operands]
    changed[1][:, :, -1] *= -3
    changed[2][:, :, -1] += 7
    after = run(workload, device, schedule_of(workload, device), changed)
    np.testing.assert_array_equal(before[:, :, :-1], after[:, :, :-1])
    assert (before[:, :, -1] != after[:, :, -1]).any()


def test_both_algorithms_agree_with_equal_values() -> None:
    workload = Workload.parse("attention heads=2 q=20 kv=100 dim=32 act=f32")
    device = device_of("")
    q, k, v = sampled(workload)
    v[...] = np.arange(32)
    for changes in ({"algorithm": "split"}, {"algorithm": "tiles", "keys": 1, "run": 16}):
        schedule = schedule_of(workload, device, block=12, tile_rows=4, tile_vectors=2, **changes)
        y = run(workload, device, schedule, [q, k, v])
        np.testing.assert_allclose(y, np.broadcast_to(np.arange(32), y.shape), rtol=1e-5)


@pytest.mark.parametrize("act", ["f32", "bf16"])
@pytest.mark.parametrize("keys", [1, 4])
def test_runs_of_values_add_up_whatever_is_left_of_rows_keys_and_lines(keys: int, act: str) -> None:
    workload = Workload.parse(
        f"attention heads=10 kv_heads=2 q=1 kv=75 dim=80 act={act}"
    )  # 16·4 + 11 keys, 2·2 + 1 rows
    device = device_of("")
    schedule = schedule_of(workload, device, chunk=64, tile_rows=2, tile_vectors=8, keys=keys, run=16)
    assert error_ratio(workload, device, schedule) <= 1


@pytest.mark.parametrize("algorithm", CASES)
def test_misaligned_operands_are_read_as_they_lie(algorithm: str) -> None:
    workload, device = Workload.parse(CASES[algorithm].format("bf16")), device_of("")
    operands = sampled(workload)
    shifted = []
    for operand in operands:
        room = np.empty(operand.size + 1, operand.dtype)
        room[1:] = operand.ravel()
        shifted.append(room[1:].reshape(operand.shape))
    schedule = schedule_of(workload, device)
    np.testing.assert_array_equal(run(workload, device, schedule, operands), run(workload, device, schedule, shifted))


def assembly(text: str, device: Device, **changes: object) -> str:
    workload = Workload.parse(text)
    lowered = FAMILY.lower(Candidate(workload, device, schedule_of(workload, device, **changes)))
    return codegen.assembly(lowered, device)


@needs_dots
@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("attention heads=3 kv_heads=1 q=2 kv=301 dim=64 act=bf16 kvcache=u8:32/f32 causal=true", {}),
        (
            "attention batch=2 heads=2 q=1 kv=150 dim=128 act=bf16 kvcache=u4:128/f32",
            {"chunk": 64, "tile_rows": 1, "tile_vectors": 2, "prefetch": 4},
        ),
    ],
    ids=["several groups a chunk", "several chunks a group"],
)
def test_codes_multiplied_as_they_lie_lose_15_bits_and_not_8(text: str, changes: dict[str, object]) -> None:
    workload, device = Workload.parse(text), device_of("")
    operands = sampled(workload)
    for scale in (operands[2], operands[5]):
        scale[..., ::2] *= -1  # of either sign
    right = data.reference(workload, operands)
    result = run(workload, device, schedule_of(workload, device, dot="i8", **changes), operands)
    assert (np.abs(result - right.expected) <= 0.1 * right.tolerance).all()


@pytest.mark.parametrize(
    "cache",
    ["u8:16/f32", "u4:128/f32", "u8:24/f32"],
    ids=["several groups a chunk", "several chunks a group", "groups that cut vectors of keys"],
)
def test_decoded_keys_of_any_groups_are_exact_but_for_rounding(cache: str) -> None:
    workload = Workload.parse(f"attention batch=2 heads=6 kv_heads=2 q=1 kv=150 dim=80 act=f32 kvcache={cache}")
    device = device_of("")
    operands = sampled(workload)
    for factors in (operands[2], operands[5]):
        factors[..., ::2] *= -1  # scales of either sign
    operands[3][..., 1::2] += 1  # zeros of either sign, as large as keys
    right = data.reference(workload, operands)
    schedule = schedule_of(workload, device, chunk=64, tile_rows=2, tile_vectors=2, prefetch=4)
    result = run(workload, device, schedule, operands)
    assert (np.abs(result - right.expected) <= 0.1 * right.tolerance).all()


def test_quantised_keys_are_decoded_in_a_loop_which_compiles_quickly() -> None:
    text = assembly("attention heads=4 kv_heads=1 q=1 kv=512 dim=128 act=f32 kvcache=u8:64/f32", device_of(""))
    keys, values = 128, 128  # bytes of a row
    lanes = cpu.vector_bits(device_of("")) // 32
    unrolled = (keys * lanes + values) // lanes
    assert 0 < len(re.findall(r"pmovzxbd", text)) < unrolled / 2


@needs_dots
def test_sums_of_the_largest_codes_fit_their_32_bits() -> None:
    workload = Workload.parse("attention heads=1 q=1 kv=512 dim=256 act=bf16 kvcache=u8:512/f32")
    device = device_of("")
    q, k, k_scale, k_zero, v, v_scale, v_zero = sampled(workload)
    q[...], k[...], k_scale[...], k_zero[...] = 1, 255, 0.01, 0
    v[...], v_scale[...], v_zero[...] = 255, 0.01, 1
    schedule = schedule_of(workload, device, dot="i8", chunk=512)
    y = run(workload, device, schedule, [q, k, k_scale, k_zero, v, v_scale, v_zero])
    np.testing.assert_allclose(y, 3.55, rtol=2**-8)


@needs_dots
def test_integer_products_are_offered_where_they_are_right() -> None:
    def dots(text: str, level: str = "") -> tuple[object, ...]:
        space = FAMILY.space(Workload.parse(f"attention heads=4 kv_heads=2 kv=128 {text}"), device_of(level))
        return next(p.choices for p in space.parameters if p.name == "dot")

    assert dots("q=1 dim=64 act=bf16 kvcache=u8:64/f32") == ("i8",)
    assert dots("q=16 dim=64 act=bf16 kvcache=u8:64/f32") == ("i8", "f32")  # tiles decode
    for text in (
        "q=1 dim=64 act=f32 kvcache=u8:64/f32",  # a result that is held to float32
        "q=1 dim=64 act=bf16 kvcache=u4:64/f32",  # half a register of codes
        "q=1 dim=512 act=bf16 kvcache=u8:64/f32",  # sums beyond 32 bits
        "q=1 dim=64 act=bf16 kvcache=u8:48/f32",  # groups that cut chunks
        "q=100 dim=64 act=bf16 kvcache=u8:64/f32",  # many queries: tiles
    ):
        assert dots(text) == ("f32",)
    assert dots("q=1 dim=64 act=bf16 kvcache=u8:64/f32", "avx2") == ("f32",)


@needs_bf16
@pytest.mark.parametrize("algorithm", CASES)
def test_bf16_uses_its_dot_products_and_calls_no_library(algorithm: str) -> None:
    text = assembly(CASES[algorithm].format("bf16"), device_of(""))
    assert re.search(r"vdpbf16ps\s.*%zmm", text)
    assert "vcvtneps2bf16" in text
    assert "expf" not in text
    assert "vdpbf16ps" not in assembly(CASES[algorithm].format("bf16"), device_of(""), dot="f32")


@pytest.mark.parametrize("level", LEVELS[1:])
def test_restricted_kernels_stay_within_their_instruction_set(level: str) -> None:
    text = assembly(CASES["split"].format("bf16"), device_of(level))
    assert "expf" not in text
    assert "vdpbf16ps" not in text
    assert ("%zmm" in text) == (cpu.vector_bits(device_of(level)) == 512)
    assert ("%ymm" in text) <= (cpu.vector_bits(device_of(level)) >= 256)


@needs_bf16
def test_inner_loop_of_prefill_keeps_its_sums_in_registers() -> None:
    text = assembly(CASES["tiles"].format("bf16"), device_of(""), tile_rows=6, tile_vectors=4)
    code = re.sub(r"^\.Ltmp\d+:\n", "", text, flags=re.MULTILINE)
    loops = [block for block in re.split(r"^\.LBB\w+:.*\n", code, flags=re.MULTILINE) if block.count("vdpbf16ps") >= 24]
    assert loops
    for loop in loops:
        body = re.split(r"^\tj\w+\t", loop, maxsplit=1, flags=re.MULTILINE)[0]
        assert body.count("vdpbf16ps") == 24
        assert not re.search(r"vmov\w+\t%zmm\d+, [-\d]*\(", body)  # no sum is stored
        assert body.count("\tv") <= 24 + 6 + 4  # products, queries, keys


def test_default_is_a_point_of_every_space() -> None:
    for level in LEVELS:
        for threads in range(1, cpu.Machine.detect().cores + 1):
            device = device_of(level, threads)
            for text in (
                "attention heads=1 q=1 kv=1 dim=8 act=bf16",
                "attention heads=32 kv_heads=8 q=1 kv=4096 dim=128 act=bf16 causal=true",
                "attention heads=32 q=17 kv=17 dim=33 act=bf16 causal=true",
                "attention heads=1 q=12 kv=5 dim=64 act=f32",
                "attention heads=6 kv_heads=2 q=2048 kv=2048 dim=128 act=f32 causal=true",
            ):
                workload = Workload.parse(text)
                assert why_invalid(FAMILY.space(workload, device), FAMILY.default(workload, device)) is None


def test_heads_shorter_than_a_vector_are_refused_with_a_reason() -> None:
    support = FAMILY.supports(Workload.parse("attention heads=1 q=1 kv=8 dim=3 act=f32"), device_of(""))
    assert not support
    assert "dim=3" in support.reason


def test_schedule_outside_the_space_does_not_build() -> None:
    workload, device = Workload.parse(CASES["tiles"].format("f32")), device_of("")
    with pytest.raises(BuildFailure, match="sums in registers"):
        FAMILY.lower(Candidate(workload, device, schedule_of(workload, device, tile_rows=12, tile_vectors=4)))


def test_features_tell_traffic_and_balance() -> None:
    workload, device = Workload.parse(CASES["tiles"].format("f32")), device_of("")
    numbers = FAMILY.features(Candidate(workload, device, schedule_of(workload, device, block=12, chunk=64)))
    assert numbers["is_tiles"] == 1
    assert numbers["log_tasks"] == pytest.approx(np.log2(2 * 5))  # two heads of keys, 60 rows in blocks of 12
    assert all(np.isfinite(list(numbers.values())))
