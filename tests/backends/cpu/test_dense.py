from __future__ import annotations

from collections.abc import Callable

import attrs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fettle.backends.api import Candidate, Device, DeviceText, Schedule
from fettle.backends.cpu import CpuBackend
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.dense import Dense
from fettle.backends.cpu.dense_kernel import Geometry
from fettle.backends.spaces import enumerate_space, is_valid
from fettle.graph.workload import Workload

DENSE = Dense()
Error = Callable[[str, Device, Schedule], float]
FEW = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


def text(batch: int, m: int, n: int, k: int, kind: str) -> str:
    return f"matmul batch={batch} m={m} n={n} k={k} act=f32 {kind}=f32"


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
        )
    )
    space = DENSE.space(workload, device)
    schedule = drawn.draw(
        st.tuples(*(st.sampled_from(p.choices) for p in space.parameters))
        .map(lambda choices: Schedule(tuple(zip(space.names, choices, strict=True))))
        .filter(lambda schedule: is_valid(space, schedule))
    )
    assert error_of(str(workload), device, schedule) <= 1


@pytest.mark.parametrize("kind", ["weight", "rhs"])
@pytest.mark.parametrize(("m", "n", "k"), [(1, 1, 1), (1, 200, 65), (5, 33, 300), (37, 53, 71), (16, 64, 64)])
def test_defaults_are_right_at_every_isa_level(
    any_isa: Device, error_of: Error, kind: str, m: int, n: int, k: int
) -> None:
    workload = Workload.parse(text(1, m, n, k, kind))
    assert error_of(str(workload), any_isa, DENSE.default(workload, any_isa)) <= 1


@pytest.mark.skipif(len(cpu.usable_cores()) < 2, reason="needs two cores")
@pytest.mark.parametrize("kind", ["weight", "rhs"])
def test_two_threads_compute_what_one_computes(backend: CpuBackend, error_of: Error, kind: str) -> None:
    device = backend.device(DeviceText.parse("cpu,threads=2"))
    workload = Workload.parse(text(2, 21, 75, 40, kind))
    schedule = Schedule(tuple({**DENSE.default(workload, device).as_dict(), "tile_m": 1, "tile_n": 1}.items()))
    assert schedule["threads"] == 2
    assert error_of(str(workload), device, schedule) <= 1


@given(
    m=st.integers(1, 5000),
    n=st.integers(1, 5000),
    k=st.integers(1, 5000),
    kind=st.sampled_from(["weight", "rhs"]),
    level=st.sampled_from(sorted(cpu.LEVELS)),
    threads=st.integers(1, 9),
)
def test_default_is_a_point_of_the_space(m: int, n: int, k: int, kind: str, level: str, threads: int) -> None:
    machine = attrs.evolve(cpu.Machine.detect(), features=cpu.LEVELS["avx512vnni"], cores=9)
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
        "matmul m=1 n=64 k=64 act=bf16 weight=bf16",
        "matmul m=1 n=64 k=64 act=f32 weight=f32 compute=bf16",
        "softmax rows=1 cols=8 act=f32",
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


def test_features_are_finite_numbers_that_tell_balance(device: Device) -> None:
    workload = Workload.parse(text(1, 37, 53, 71, "weight"))
    schedule = DENSE.default(workload, device)
    features = DENSE.features(Candidate(workload, device, schedule))
    assert all(np.isfinite(value) for value in features.values())
    g = Geometry.of(workload, schedule, device)
    assert features["row_waste"] == g.micro_rows * g.micro_m / 37 >= 1
    assert 0 < features["balance"] <= 1
