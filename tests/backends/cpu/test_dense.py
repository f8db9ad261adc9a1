from __future__ import annotations

from collections.abc import Callable

import attrs
import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fettle.backends.api import Candidate, Device, DeviceText, Schedule
from fettle.backends.cpu import CpuBackend, codegen
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.dense import Dense, layouts, untuned
from fettle.backends.cpu.dense.geometry import Geometry
from fettle.backends.spaces import enumerate_space, is_valid
from fettle.graph import data
from fettle.graph.workload import Workload

DENSE = Dense()
Error = Callable[[str, Device, Schedule], float]
FEW = settings(
    max_examples=24, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


EPILOGUES = ("", " epilogue=relu(y+b0)", " epilogue=silu(y)+x0", " epilogue=(y+b0)*x0-b1", " epilogue=sigmoid(y)")


def text(batch: int, m: int, n: int, k: int, kind: str, fmt: str = "f32") -> str:
    return f"matmul batch={batch} m={m} n={n} k={k} act={fmt} {kind}={fmt}"


@FEW
@given(drawn=st.data())
def test_every_schedule_is_right_for_every_shape(drawn: st.DataObject, device: Device, error_of: Error) -> None:
    extents = st.integers(1, 70)
    workload = Workload.parse(
        text(
            drawn.draw(st.integers(1, 2)),
            drawn.draw(st.integers(1, 40)),
            drawn.draw(extents),
            drawn.draw(extents | st.integers(100, 300)),
            drawn.draw(st.sampled_from(["weight", "rhs"])),
            fmt := drawn.draw(st.sampled_from(["f32", "bf16"])),
        )
        + (drawn.draw(st.sampled_from(["", " out=f32", " compute=f32"])) if fmt == "bf16" else "")
        + drawn.draw(st.sampled_from(EPILOGUES))
    )
    points = enumerate_space(DENSE.space(workload, device))
    assert error_of(str(workload), device, points[drawn.draw(st.integers(0, len(points) - 1))]) <= 1


@pytest.mark.parametrize("kind", ["weight", "rhs"])
@pytest.mark.parametrize(
    ("fmt", "m", "n", "k", "epilogue"),
    [
        ("f32", 1, 200, 65, ""),
        ("f32", 5, 33, 300, "silu(y+b0)*x0"),
        ("f32", 37, 53, 71, ""),
        ("bf16", 1, 1, 1, ""),
        ("bf16", 6, 37, 1031, "relu(y+b0)+x0"),
    ],
)
def test_defaults_are_right_at_every_isa_level(
    any_isa: Device, error_of: Error, kind: str, fmt: str, m: int, n: int, k: int, epilogue: str
) -> None:
    workload = Workload.parse(text(1, m, n, k, kind, fmt) + (f" epilogue={epilogue}" if epilogue else ""))
    assert error_of(str(workload), any_isa, DENSE.default(workload, any_isa)) <= 1


@pytest.mark.skipif(len(cpu.usable_cores()) < 2, reason="needs two cores")
@pytest.mark.parametrize("kind", ["weight", "rhs"])
def test_two_threads_compute_what_one_computes(backend: CpuBackend, error_of: Error, kind: str) -> None:
    device = backend.device(DeviceText.parse("cpu,threads=2"))
    workload = Workload.parse(text(2, 21, 75, 40, kind))
    schedule = Schedule(tuple({**DENSE.default(workload, device).as_dict(), "tile_m": 1, "tile_n": 1}.items()))
    assert schedule["threads"] == 2
    assert error_of(str(workload), device, schedule) <= 1


@pytest.mark.parametrize(("fmt", "kind"), [("f32", "rhs"), ("bf16", "rhs"), ("bf16", "weight")])
def test_any_schedule_of_any_m_gives_a_row_the_same_bits(backend: CpuBackend, fmt: str, kind: str) -> None:
    device = backend.device(DeviceText.parse("cpu"))
    shape = "matmul m={} n=70 k=301 act={} {}={} epilogue=silu(y+b0) invariant=true"
    rng = np.random.default_rng(0)
    x, *others = data.operands(Workload.parse(shape.format(34, fmt, kind, fmt)), 0)
    bits = set()
    for m in (1, 34):
        workload = Workload.parse(shape.format(m, fmt, kind, fmt))
        points = enumerate_space(DENSE.space(workload, device))
        for schedule in (DENSE.default(workload, device), points[int(rng.integers(len(points)))]):
            kernel = backend.load(backend.build(Candidate(workload, device, schedule)))
            inputs, constants = [np.ascontiguousarray(np.asarray(x)[:m])], others
            if kind == "rhs":
                inputs, constants = [*inputs, np.asarray(others[0])], others[1:]
            out = np.empty(workload.result.shape, workload.result.format.dtype)
            kernel.run(inputs, kernel.pack(constants), out)
            bits.add(out[0].tobytes())
    assert len(bits) == 1


@pytest.mark.parametrize(("fmt", "k"), [("f32", 300), ("bf16", 301)])
def test_tasks_that_pack_their_own_blocks_of_rhs_meet_every_edge(
    device: Device, error_of: Error, fmt: str, k: int
) -> None:
    workload = Workload.parse(text(2, 21, 139, k, "rhs", fmt))
    blocks = {"rhs": "blocks", "tile_m": 8, "tile_n": 2, "tile_k": 128}
    schedule = Schedule.of(**(DENSE.default(workload, device).as_dict() | blocks))
    assert error_of(str(workload), device, schedule) <= 1


@pytest.mark.parametrize(("fmt", "m"), [("f32", 3), ("bf16", 3), ("f32", 18)])
def test_rhs_read_in_place_in_short_blocks_meets_every_edge(device: Device, error_of: Error, fmt: str, m: int) -> None:
    workload = Workload.parse(text(2, m, 75, 29, "rhs", fmt) + " epilogue=(y+b0)*x0")
    wish = {"rhs": "direct", "tile_k": 8, "tile_n": 2, "micro_m": 3, "micro_n": 64, "copy_x": False}
    wish |= {"multiply": "single"} if "multiply" in DENSE.space(workload, device).names else {}
    schedule = Schedule.of(**(DENSE.default(workload, device).as_dict() | wish))
    assert is_valid(DENSE.space(workload, device), schedule)
    assert error_of(str(workload), device, schedule) <= 1


@pytest.mark.parametrize(
    ("shape", "rhs"),
    [("1 1000 2048", "direct"), ("16 4096 4096", "direct"), ("16 64 64", "blocks"), ("1 7 4096", "blocks")],
)
def test_few_rows_leave_a_rhs_where_it_is_by_default(device: Device, shape: str, rhs: str) -> None:
    schedule = DENSE.default(Workload.parse(text(1, *map(int, shape.split()), "rhs")), device)
    assert schedule["rhs"] == rhs


@pytest.mark.parametrize("shape", ["1024 1024 1024", "128 4096 4096", "1 4096 11008", "5 3766 2374"])
@pytest.mark.parametrize("fmt", ["f32", "bf16"])
def test_default_is_found_without_enumerating_the_space(
    monkeypatch: pytest.MonkeyPatch, device: Device, shape: str, fmt: str
) -> None:
    monkeypatch.setattr(untuned, "enumerate_space", None)
    for kind in ("weight", "rhs"):
        workload = Workload.parse(text(1, *map(int, shape.split()), kind, fmt))
        assert is_valid(DENSE.space(workload, device), DENSE.default(workload, device))


@given(
    m=st.integers(1, 5000),
    n=st.integers(1, 5000),
    k=st.integers(1, 5000),
    kind=st.sampled_from(["weight", "rhs"]),
    level=st.sampled_from(sorted(cpu.LEVELS)),
    threads=st.integers(1, 9),
)
def test_default_is_a_point_of_the_space(m: int, n: int, k: int, kind: str, level: str, threads: int) -> None:
    machine = attrs.evolve(cpu.Machine.detect(), features=cpu.LEVELS["amx"], cores=9)
    device = cpu.parse_device(DeviceText.parse(f"cpu,isa={level},threads={threads}"), machine)
    workload = Workload.parse(text(1, m, n, k, kind))
    assert is_valid(DENSE.space(workload, device), DENSE.default(workload, device))


def test_space_of_a_large_product_is_large_and_enumerable(device: Device) -> None:
    space = DENSE.space(Workload.parse(text(1, 512, 512, 512, "weight")), device)
    assert len(enumerate_space(space)) > 10_000


def test_packed_panels_hold_the_weight_and_zeros(device: Device) -> None:
    workload = Workload.parse(text(2, 4, 40, 3, "weight"))
    weight = np.random.default_rng(0).standard_normal((2, 3, 40), np.float32)
    (panels,) = DENSE.pack(workload, Schedule.of(micro_n=16), [weight])
    assert panels.shape == (2, 3, 3, 16)
    for b, n, k in np.ndindex(2, 48, 3):
        assert panels[b, n // 16, k, n % 16] == (weight[b, k, n] if n < 40 else 0.0)


def test_schedules_with_equal_panels_share_a_weight_layout() -> None:
    workload = Workload.parse(text(1, 4, 40, 3, "weight"))
    layouts = [DENSE.weight_layout(workload, Schedule.of(micro_n=n, tile_k=t)) for n, t in ((16, 8), (16, 4), (32, 8))]
    assert layouts[0] == layouts[1] != layouts[2]
    assert DENSE.weight_layout(Workload.parse(text(1, 4, 40, 3, "rhs")), Schedule.of(micro_n=16)) == ""


@pytest.mark.parametrize(
    "other",
    [
        "matmul m=1 n=64 k=64 act=f32 weight=u4:32",
        "matmul m=1 n=64 k=64 act=f16 weight=f16",
        "matmul m=1 n=64 k=64 act=bf16 weight=f32",
        "matmul m=1 n=64 k=64 act=f32 weight=f32 out=f16",
        "matmul m=1 n=64 k=64 act=f32 weight=f32 compute=bf16",
        "matmul m=1 n=65536 k=65536 act=f32 weight=f32",
    ],
)
def test_other_work_is_declined_with_a_reason(device: Device, other: str) -> None:
    support = DENSE.supports(Workload.parse(other), device)
    assert not support
    assert support.reason


@pytest.mark.parametrize("level", ["avx2", "avx512"])
def test_register_tiles_of_the_default_stay_in_registers(backend: CpuBackend, level: str) -> None:
    if not cpu.LEVELS[level] <= cpu.Machine.detect().features:
        pytest.skip(f"this machine lacks {level}")
    device = backend.device(DeviceText.parse(f"cpu,isa={level},threads=1"))
    workload = Workload.parse(text(1, 96, 64, 64, "weight"))
    schedule = DENSE.default(workload, device)
    facts = dict(backend.build(Candidate(workload, device, schedule)).facts)
    vectors = schedule["micro_m"] * schedule["micro_n"] * 32 // cpu.vector_bits(device)
    assert int(facts["fma"]) >= vectors
    assert int(facts["spills"]) < vectors


def test_asking_ahead_leaves_sums_in_registers(backend: CpuBackend, device: Device) -> None:
    workload = Workload.parse(text(1, 96, 64, 64, "weight"))
    wide = {"micro_m": 8, "micro_n": 32} if cpu.vector_bits(device) == 512 else {}
    default = DENSE.default(workload, device).as_dict() | wide
    builds = [backend.build(Candidate(workload, device, Schedule.of(**(default | {"prefetch": p})))) for p in (0, 4)]
    without, ahead = (dict(build.facts) for build in builds)
    assert int(ahead["prefetches"]) > 0
    # a store of each sum in every step of k would be one more for each multiply-add
    assert int(ahead["instructions"]) - int(without["instructions"]) < int(ahead["fma"])


@pytest.mark.skipif("avx512bf16" not in cpu.Machine.detect().features, reason="needs AVX512-BF16")
def test_pairs_of_bfloat16_are_multiplied_by_one_instruction(device: Device) -> None:
    workload = Workload.parse(text(1, 64, 64, 64, "weight", "bf16"))
    pairs = {"multiply": "pairs", "micro_m": 8, "micro_n": 32, "tile_m": 2}
    schedule = Schedule.of(**(DENSE.default(workload, device).as_dict() | pairs))
    lowered = DENSE.lower(Candidate(workload, device, schedule))
    lines = [line.split() for line in codegen.assembly(lowered, device).splitlines()]
    products = [line for line in lines if line[:1] == ["vdpbf16ps"]]
    vectors = schedule["micro_m"] * schedule["micro_n"] * 32 // cpu.vector_bits(device)
    assert len(products) >= vectors
    assert len({line[-1] for line in products}) >= vectors  # every sum has a register of its own
    assert lowered.isa == ("avx512bf16",)


def test_pairs_are_packed_with_the_earlier_element_in_the_lower_half() -> None:
    weight = np.arange(1, 16, dtype=np.float32).astype(ml_dtypes.bfloat16).reshape(1, 3, 5)
    panels = layouts.pack(weight, 4, 2)
    assert panels.shape == (1, 2, 2, 4)
    halves = panels.view(np.uint16).reshape(2, 2, 4, 2)
    raw = weight.view(np.uint16)[0]
    for panel, step, j, half in np.ndindex(2, 2, 4, 2):
        k, n = 2 * step + half, 4 * panel + j
        assert halves[panel, step, j, half] == (raw[k, n] if k < 3 and n < 5 else 0)


def test_features_are_finite_numbers_that_tell_balance(device: Device) -> None:
    workload = Workload.parse(text(1, 37, 53, 71, "weight"))
    schedule = DENSE.default(workload, device)
    features = DENSE.features(Candidate(workload, device, schedule))
    assert all(np.isfinite(value) for value in features.values())
    g = Geometry.of(workload, schedule, device)
    assert features["row_waste"] == g.micro_rows * g.micro_m / 37 >= 1
    assert 0 < features["balance"] <= 1
