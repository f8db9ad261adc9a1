"""Row operators: within the declared tolerance for every schedule, shape, alignment and awkward input tried."""

from __future__ import annotations

import re

import attrs
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from fettle.backends.api import Artifact, Candidate, Device, DeviceText, Schedule
from fettle.backends.cpu import CpuBackend
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.rows import Rows
from fettle.backends.spaces import enumerate_space, why_invalid
from fettle.graph import data
from fettle.graph.errors import BuildFailure
from fettle.graph.workload import Workload
from tests.backends.cpu.errors import largest_error

BACKEND = CpuBackend()
ROWS = Rows()
LEVELS = [level for level, isa in cpu.LEVELS.items() if isa <= cpu.Machine.detect().features]


def device_of(level: str, threads: int = 1) -> Device:
    return BACKEND.device(DeviceText("cpu", "", (("isa", level), ("threads", str(threads)))))


def built(text: str, device: Device, **changes: object) -> Artifact:
    workload = Workload.parse(text)
    values = ROWS.default(workload, device).as_dict() | changes
    return BACKEND.build(Candidate(workload, device, Schedule(tuple(values.items()))))  # type: ignore[arg-type]


def misaligned(array: np.ndarray, elements: int) -> np.ndarray:
    """A copy that starts so many elements past a cache line."""
    room = np.empty(array.size + 64, array.dtype)
    start = -room.ctypes.data % 64 // array.itemsize + elements
    copy = room[start : start + array.size].reshape(array.shape)
    copy[...] = array
    return copy


def run(artifact: Artifact, operands: list[np.ndarray], shift: int = 1) -> np.ndarray:
    """Result in a poisoned array between two guards that must stay untouched."""
    kernel = BACKEND.load(artifact)
    tensors = Workload.parse(artifact.workload).operands
    pairs = list(zip(operands, tensors, strict=True))
    inputs = [misaligned(o, shift) for o, t in pairs if not t.constant]
    result = Workload.parse(artifact.workload).result
    room = np.empty(result.size + 128, result.format.dtype)
    room.view(np.uint8)[:] = 0xFF  # a float that is no number
    start = 32 + -room.ctypes.data % 64 // room.itemsize + shift
    out = room[start : start + result.size].reshape(result.shape)
    kernel.run(inputs, kernel.pack([o for o, t in pairs if t.constant]), out)
    assert (room[:start].view(np.uint8) == 0xFF).all()
    assert (room[start + result.size :].view(np.uint8) == 0xFF).all()
    return out.copy()


def error_ratio(artifact: Artifact, operands: list[np.ndarray], shift: int = 1) -> float:
    return largest_error(Workload.parse(artifact.workload), operands, run(artifact, operands, shift))


def sampled(text: str) -> list[np.ndarray]:
    return [np.asarray(o) for o in data.operands(Workload.parse(text), 5)]


FORMATS = st.sampled_from(["f32", "bf16", "f16"])

WORKLOADS = st.one_of(
    st.builds("softmax rows={} cols={} act={}".format, st.integers(1, 9), st.integers(1, 3000), FORMATS),
    st.builds(
        "{} rows={} cols={} act={} eps=1e-6".format,
        st.sampled_from(["rmsnorm", "layernorm"]),
        st.integers(1, 9),
        st.integers(1, 600),
        FORMATS,
    ),
    st.builds(
        "elementwise shape={}x{} act={} expr={}".format,
        st.integers(1, 9),
        st.integers(1, 3000),
        FORMATS,
        st.sampled_from(
            [
                "silu(x0)*x1",
                "tanh(x0)-0.5*x0",
                "-sigmoid(x1)/exp(x0)",
                "relu(x0)+abs(x1)",
                "x0",
                "round(8*min(x0,max(x1,0.5)))",
            ]
        ),
    ),
).filter(lambda text: "x1" not in text or "x0" in text)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(WORKLOADS, st.sampled_from(LEVELS), st.integers(1, 2), st.integers(0, 15), st.integers(0, 2**32))
def test_any_schedule_of_any_shape_is_within_tolerance(
    text: str, level: str, threads: int, shift: int, seed: int
) -> None:
    workload, device = Workload.parse(text), device_of(level, min(threads, cpu.Machine.detect().cores))
    assume(ROWS.supports(workload, device))
    points = enumerate_space(ROWS.space(workload, device))
    schedule = points[points.sample(np.random.default_rng(seed), 1)[0]]
    artifact = BACKEND.build(Candidate(workload, device, schedule))
    assert error_ratio(artifact, sampled(text), shift) <= 1


ADVERSARIAL = {
    "equal": np.full(133, 3.25),
    "wide": np.linspace(-1e4, 1e4, 133),
    "denormal": np.full(133, 1e-41),
    "one huge": np.where(np.arange(133) == 131, 3e38, -1.0),
    "extremes": np.where(np.arange(133) % 2, 3.4e38, -3.4e38),
    "staircase": -np.arange(133.0) * 0.8,
    "zero": np.zeros(133),
}


@pytest.fixture(scope="module", params=LEVELS)
def softmaxes(request: pytest.FixtureRequest) -> list[Artifact]:
    text, device = f"softmax rows={len(ADVERSARIAL)} cols=133 act=f32", device_of(request.param)
    return [
        built(text, device),
        built(text, device, algorithm="two_pass", unroll=2),
        built(text, device, algorithm="two_pass", unroll=1, stream=True),
        built(text, device, algorithm="online", unroll=1),
        built(text, device, algorithm="online", unroll=2, stream=True),
        built(text, device, algorithm="pipelined", unroll=1),
        built(text, device, algorithm="pipelined", unroll=2, stream=True),
    ]


def test_softmax_of_awkward_rows_is_within_tolerance(softmaxes: list[Artifact]) -> None:
    x = np.array(list(ADVERSARIAL.values()), np.float32)
    for artifact in softmaxes:
        assert error_ratio(artifact, [x]) <= 1


def test_softmax_gives_masked_values_nothing_and_passes_nan_on(softmaxes: list[Artifact]) -> None:
    x = np.array(list(ADVERSARIAL.values()), np.float32)
    x[0, ::3] = -np.inf
    x[1, 7] = np.nan
    for artifact in softmaxes:
        y = run(artifact, [x])
        assert (y[0, ::3] == 0).all()
        assert np.allclose(np.delete(y[0], np.s_[::3]), 1 / 88)
        assert np.isnan(y[1]).all()
        assert np.allclose(y[2:].sum(axis=1), 1)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("operator", ["rmsnorm", "layernorm"])
def test_norm_of_awkward_rows_is_within_tolerance(level: str, stream: bool, operator: str) -> None:
    x = np.array(list(ADVERSARIAL.values()), np.float32)
    weight = np.linspace(-2, 2, 133, dtype=np.float32)
    for eps in ("1e-05", "1e-30"):
        artifact = built(f"{operator} rows={len(x)} cols=133 act=f32 eps={eps}", device_of(level), stream=stream)
        constants = [weight, weight + 1] if operator == "layernorm" else [weight]
        assert error_ratio(artifact, [x, *constants]) <= 1


EVERYWHERE = np.concatenate(
    [
        np.linspace(-110, 110, 4001),
        np.linspace(-1, 1, 2001),
        np.geomspace(1e-44, 3e38, 400),
        -np.geomspace(1e-44, 3e38, 400),
    ]
).astype(np.float32)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("function", ["relu", "sigmoid", "silu", "tanh", "erf", "exp", "abs", "round"])
def test_function_is_within_tolerance_everywhere(level: str, function: str) -> None:
    x = EVERYWHERE
    if function == "exp":
        x = x[x < 88.72]  # beyond, the float64 reference is no float32
    artifact = built(f"elementwise shape={x.size} act=f32 expr={function}(x0)", device_of(level))
    assert error_ratio(artifact, [x]) <= 1


LIMITS = {
    "relu": (0, np.inf),
    "sigmoid": (0, 1),
    "silu": (np.nan, np.inf),  # -inf * 0, as IEEE and NumPy have it
    "tanh": (-1, 1),
    "erf": (-1, 1),
    "exp": (0, np.inf),
    "abs": (np.inf, np.inf),
    "round": (-np.inf, np.inf),
}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("function", LIMITS)
def test_function_has_its_limits_at_infinity_and_keeps_nan(level: str, function: str) -> None:
    artifact = built(f"elementwise shape=3 act=f32 expr={function}(x0)", device_of(level))
    y = run(artifact, [np.array([-np.inf, np.inf, np.nan], np.float32)])
    np.testing.assert_array_equal(y, np.array([*LIMITS[function], np.nan], np.float32))


def test_tanh_and_silu_are_odd_or_vanish_at_zero() -> None:
    y = run(
        built("elementwise shape=2 act=f32 expr=tanh(x0)", device_of(LEVELS[-1])), [np.array([0.0, -0.0], np.float32)]
    )
    assert (y == 0).all()
    assert np.signbit(y).tolist() == [False, True]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("act", ["bf16", "f16"])
def test_copy_of_narrow_values_is_exact_and_keeps_infinity_and_nan(level: str, act: str) -> None:
    device, text = device_of(level), f"elementwise shape=65536 act={act} expr=x0"
    if not ROWS.supports(Workload.parse(text), device):
        pytest.skip("this level lacks the format")
    x = np.arange(65536).astype(np.uint16).view(Workload.parse(text).result.format.dtype)
    y = run(built(text, device), [x])
    numbers = ~np.isnan(x.astype(np.float32))
    np.testing.assert_array_equal(y[numbers].view(np.uint16), x[numbers].view(np.uint16))
    assert np.isnan(y[~numbers].astype(np.float32)).all()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("act", ["bf16", "f16"])
def test_results_are_rounded_to_nearest_even(level: str, act: str) -> None:
    device, text = device_of(level), f"elementwise shape=4096 act={act} expr=x0*1.0078125"
    if not ROWS.supports(Workload.parse(text), device):
        pytest.skip("this level lacks the format")
    dtype = Workload.parse(text).result.format.dtype
    x = np.random.default_rng(3).standard_normal(4096).astype(dtype)
    exact = x.astype(np.float32) * np.float32(1.0078125)  # NumPy rounds to nearest even
    np.testing.assert_array_equal(run(built(text, device), [x]).view(np.uint16), exact.astype(dtype).view(np.uint16))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    "operator",
    [
        "elementwise shape=17 act=bf16 expr=x0",
        "softmax rows=2 cols=17 act=bf16",
        "elementwise shape=17 act=u8 expr=x0",
        "elementwise shape=17 act=f32 expr=x0 out=i8",
    ],
)
def test_single_narrow_value_behind_whole_vectors_is_all_that_is_written(level: str, operator: str) -> None:
    run(built(operator, device_of(level)), sampled(operator))  # its guards notice more


def assembly(text: str, device: Device, **changes: object) -> str:
    from fettle.backends.cpu import codegen

    workload = Workload.parse(text)
    values = ROWS.default(workload, device).as_dict() | changes
    lowered = ROWS.lower(Candidate(workload, device, Schedule(tuple(values.items()))))  # type: ignore[arg-type]
    return codegen.assembly(lowered, device)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("algorithm", ["three_pass", "two_pass", "online", "pipelined"])
def test_softmax_calls_no_library_and_uses_the_whole_register(level: str, algorithm: str) -> None:
    device = device_of(level)
    text = assembly("softmax rows=64 cols=4096 act=f32", device, algorithm=algorithm, unroll=4)
    assert "expf" not in text
    assert "floorf" not in text
    assert ("TVMBackendAllocWorkspace" in text) == (algorithm == "pipelined")  # for its row of exponentials
    register = {512: "zmm", 256: "ymm", 128: "xmm"}[cpu.vector_bits(device)]
    assert re.search(rf"maxps.*%{register}", text)
    assert re.search(rf"addps.*%{register}", text)
    wider = {"xmm": "ymm", "ymm": "zmm"}.get(register)
    assert wider is None or not re.search(rf"maxps.*%{wider}", text)


def test_streamed_results_bypass_the_caches_and_are_fenced() -> None:
    device = device_of(LEVELS[-1])
    for text, changes in (
        ("softmax rows=64 cols=4096 act=f32", {"algorithm": "two_pass"}),
        ("softmax rows=64 cols=4096 act=f32", {"algorithm": "pipelined"}),
        ("rmsnorm rows=64 cols=4096 act=f32", {}),
        ("layernorm rows=64 cols=4096 act=f32", {}),
        ("elementwise shape=64x4096 act=f32 expr=relu(x0)", {}),
    ):
        facts = dict(built(text, device, stream=True, **changes).facts)
        plain = dict(built(text, device, **changes).facts)
        assert int(facts["stream_stores"]) > 0
        assert int(plain["stream_stores"]) == 0
        assert int(facts["calls"]) <= int(plain["calls"])


def test_default_is_a_point_of_every_space() -> None:
    for level in LEVELS:
        for threads in range(1, cpu.Machine.detect().cores + 1):
            device = device_of(level, threads)
            for text in (
                "softmax rows=1 cols=1 act=f32",
                "softmax rows=128 cols=32000 act=f32",
                "softmax rows=1 cols=20000000 act=f32",
                "softmax rows=4096 cols=8192 act=bf16",
                "rmsnorm rows=3 cols=17 act=f32",
                "layernorm rows=3 cols=17 act=bf16",
                "elementwise shape=1 act=f32 expr=x0",
                "elementwise shape=4097 act=f32 expr=x0",
            ):
                workload = Workload.parse(text)
                assert why_invalid(ROWS.space(workload, device), ROWS.default(workload, device)) is None


def test_lower_degrees_are_offered_only_where_the_tolerance_has_room() -> None:
    from fettle.backends.cpu.rows.spaces import softmax_degrees

    assert softmax_degrees(64, 16) == (5, 6)
    assert softmax_degrees(32000, 16) == (4, 5, 6)


def test_low_degree_is_within_tolerance_where_offered() -> None:
    text = "softmax rows=8 cols=4096 act=f32"
    artifact = built(text, device_of(LEVELS[-1]), degree=4)
    assert error_ratio(artifact, sampled(text)) <= 1
    assert error_ratio(artifact, [np.zeros((8, 4096), np.float32)]) <= 1


@pytest.mark.parametrize("level", LEVELS[-2:])
def test_online_sums_of_rising_rows_are_within_tolerance(level: str) -> None:
    cols, device = 32000, device_of(level)
    workload = Workload.parse(f"softmax rows=1 cols={cols} act=f32")
    rising = [np.arange(cols, dtype=np.float32)[None] * np.float32(step) for step in (1e-6, 1e-3, 3e-2)]
    points = enumerate_space(ROWS.space(workload, device))
    online = [s for s in (points[i] for i in range(len(points))) if s["algorithm"] == "online"]
    for schedule in min(online, key=lambda s: (s["degree"], s["unroll"])), min(online, key=lambda s: s["unroll"]):
        artifact = BACKEND.build(Candidate(workload, device, schedule))
        for x in rising:  # every value rescales the sum of those before it
            assert error_ratio(artifact, [x]) <= 1


def test_online_softmax_is_offered_only_where_rescaling_has_room() -> None:
    from fettle.backends.cpu.rows.spaces import online_fits

    assert online_fits(4096, 16, 5, 1)
    assert not online_fits(4096, 16, 4, 8)  # the slope of degree 4 alone is 556 units of u; 528 are allowed
    assert online_fits(32000, 16, 5, 2)
    assert not online_fits(32000, 16, 5, 1)


@pytest.mark.skipif(cpu.Machine.detect().cores < 2, reason="one core")
@pytest.mark.parametrize(("act", "cols"), [("f32", 2048), ("f32", 5000), ("bf16", 2049)])
@pytest.mark.parametrize("algorithm", ["two_pass", "online"])
def test_row_split_over_threads_is_within_tolerance(act: str, cols: int, algorithm: str) -> None:
    text = f"softmax rows=3 cols={cols} act={act}"
    artifact = built(text, device_of(LEVELS[-1], 2), algorithm=algorithm, split=2, threads=2, stream=act == "f32")
    assert error_ratio(artifact, sampled(text)) <= 1
    x = np.zeros((3, cols), sampled(text)[0].dtype)
    x[0, 0], x[1, -1], x[2] = 80, 80, -np.inf  # a part whose values all vanish beside the other's
    x[2, -1] = 1
    y = run(artifact, [x]).astype(np.float32)
    assert (y[0, 0], y[1, -1], y[2, -1]) == (1, 1, 1)
    np.testing.assert_allclose(y.sum(axis=1), 1, rtol=1e-2)


@pytest.mark.parametrize(("rows", "threads"), [(2, 1), (3, 1), (11, 1), (4, 2), (11, 2)])
def test_pipelined_rows_are_those_of_three_passes(rows: int, threads: int) -> None:
    if threads > cpu.Machine.detect().cores:
        pytest.skip("one core")
    text, device = f"softmax rows={rows} cols=1000 act=f32", device_of(LEVELS[-1], threads)
    x = np.random.default_rng(rows).normal(size=(rows, 1000)).astype(np.float32) * np.arange(1, rows + 1)[:, None]
    results = [
        run(built(text, device, algorithm=algorithm, threads=threads, unroll=2), [x.astype(np.float32)])
        for algorithm in ("pipelined", "three_pass")
    ]
    np.testing.assert_array_equal(*results)


@pytest.mark.skipif(cpu.Machine.detect().cores < 2, reason="one core")
@pytest.mark.parametrize(("rows", "threads"), [(32, 1), (128, 1), (256, 2)])
def test_a_small_softmax_is_not_worth_a_second_thread_by_default(rows: int, threads: int) -> None:
    workload = Workload.parse(f"softmax rows={rows} cols=128 act=f32")
    schedule = ROWS.default(workload, device_of(LEVELS[-1], 2))
    assert schedule["threads"] == threads


def test_a_large_softmax_is_written_past_the_caches_by_default() -> None:
    machine = attrs.evolve(cpu.Machine.detect(), caches=(("L2", 1 << 20), ("L3", 32 << 20)))
    device = cpu.default_device(machine)

    def choice(rows: int, cols: int = 4096) -> tuple[object, object]:
        schedule = ROWS.default(Workload.parse(f"softmax rows={rows} cols={cols} act=f32"), device)
        return schedule["algorithm"], schedule["stream"]

    assert choice(512) == ("pipelined", False)  # x and y, 8 MB each, are half of the last cache
    assert choice(513) == ("pipelined", True)
    assert choice(64, 1 << 17) == ("pipelined", True)
    assert choice(64, (1 << 17) + 1) == ("two_pass", True)  # a row of exponentials would not fit beside x


@pytest.mark.parametrize(
    "text", ["rmsnorm rows={} cols=4096 act=f32", "elementwise shape={}x4096 act=f32 expr=exp(x0)"]
)
def test_what_fills_half_of_the_last_cache_is_written_past_it_by_default(text: str) -> None:
    device = cpu.default_device(attrs.evolve(cpu.Machine.detect(), caches=(("L2", 1 << 20), ("L3", 32 << 20))))
    streams = [ROWS.default(Workload.parse(text.format(rows)), device)["stream"] for rows in (500, 520)]
    assert streams == [False, True]
    assert not ROWS.default(Workload.parse(text.format(2000).replace("f32", "bf16")), device)["stream"]


@pytest.mark.skipif(cpu.Machine.detect().cores < 2, reason="one core")
def test_only_long_rows_are_split_by_default_and_take_two_parallel_regions() -> None:
    device = device_of(LEVELS[-1], 2)
    for cols, split, regions in (32000, 2, 2), (4096, 1, 0):
        workload = Workload.parse(f"softmax rows=1 cols={cols} act=f32")
        schedule = ROWS.default(workload, device)
        assert schedule["split"] == split
        lowered = ROWS.lower(Candidate(workload, device, schedule))
        assert str(lowered.function).count("T.parallel") == regions


@pytest.mark.parametrize("text", ["softmax rows=1 cols=8 act=f16", "rmsnorm rows=1 cols=8 act=f16"])
def test_what_a_device_cannot_do_is_refused_with_a_reason(text: str) -> None:
    support = ROWS.supports(Workload.parse(text), device_of(LEVELS[0]))
    assert not support
    assert support.reason


def test_schedule_outside_the_space_does_not_build() -> None:
    with pytest.raises(BuildFailure, match="stream"):
        built("softmax rows=4 cols=4096 act=f32", device_of(LEVELS[0]), algorithm="three_pass", stream=True)


def test_features_tell_passes_and_shares() -> None:
    workload, device = Workload.parse("softmax rows=6 cols=1024 act=f32"), device_of(LEVELS[-1])
    values = ROWS.default(workload, device).as_dict()
    three, two, pipelined = (
        ROWS.features(Candidate(workload, device, Schedule(tuple((values | {"algorithm": algorithm}).items()))))
        for algorithm in ("three_pass", "two_pass", "pipelined")
    )
    names = ("reads_per_value", "writes_per_value", "exponentials_per_value")
    assert [[found[name] for name in names] for found in (three, two, pipelined)] == [[3, 2, 1], [2, 1, 2], [2, 1, 1]]
    assert pipelined["tasks_per_thread"] == 1
    assert two["log2_bytes_moved"] == pytest.approx(np.log2(6 * 1024 * 4 * 3))
    assert three["idle_fraction"] == 0
    assert all(np.isfinite(list(three.values())))
