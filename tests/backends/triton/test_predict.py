"""Predictions follow the resources they are made of. Expected times are worked out by hand from the data sheet."""

from __future__ import annotations

import pytest

from fettle.backends.triton.predict import BANDWIDTH_SHARE, LAUNCH, Prediction, predict
from fettle.backends.triton.resources import Resources, occupancy
from fettle.backends.triton.targets import TARGETS
from tests.backends.triton.programs import kernel, program

H200 = TARGETS["sm_90"]


def seconds(**changes: object) -> float:
    found = predict(program(kernel(**changes)), H200)  # type: ignore[arg-type]
    assert isinstance(found, Prediction)
    return found.seconds


def test_much_traffic_takes_what_the_memory_takes() -> None:
    assert seconds(bytes=1e9) == pytest.approx(1e9 / (4.8e12 * BANDWIDTH_SHARE) + LAUNCH)


def test_arithmetic_takes_what_the_tensor_units_take() -> None:
    assert seconds(bytes=1.0, flops=989e12 * 1e-3, programs=132) == pytest.approx(1e-3 + LAUNCH)


def test_a_last_wave_that_is_nearly_empty_costs_a_whole_one() -> None:
    full = seconds(bytes=1.0, flops=1e12, programs=132) - LAUNCH
    assert seconds(bytes=1.0, flops=1e12 * 133 / 132, programs=133) - LAUNCH == pytest.approx(2 * full)


@pytest.mark.parametrize("change", [{"bytes": 2e8}, {"instructions": 10**5}, {"spills": 8, "instructions": 10**4}])
def test_more_of_anything_is_never_faster(change: dict[str, float]) -> None:
    base = {"instructions": 10**4} if "spills" in change else {}
    assert seconds(**base | change) > seconds(**base)


def test_every_launch_counts() -> None:
    found = predict(program(kernel(), kernel()), H200)
    assert isinstance(found, Prediction)
    assert found.seconds == pytest.approx(2 * seconds())


def test_few_bytes_in_flight_do_not_fill_the_memory() -> None:
    deep = seconds(programs=132, trips=1000, stages=4, bytes=1e7)
    assert seconds(programs=132, trips=1000, stages=2, bytes=1e7) > deep


@pytest.mark.parametrize(("change", "why"), [({"shared": 232449}, "shared memory"), ({"warps": 64}, "2048 threads")])
def test_a_kernel_that_cannot_be_loaded_has_no_time(change: dict[str, int], why: str) -> None:
    found = predict(program(kernel(**change)), H200)  # type: ignore[arg-type]
    assert isinstance(found, str)
    assert why in found


@pytest.mark.parametrize(
    ("registers", "threads", "shared", "blocks", "limiter"),
    [
        (32, 128, 0, 16, "registers"),  # 65536 / (32 · 128); 16 is also what the warps allow
        (128, 256, 0, 2, "registers"),  # 65536 / (128 · 256)
        (33, 128, 0, 12, "registers"),  # 40 registers are given: 65536 / 5120
        (16, 32, 100 * 1024, 2, "shared"),  # 228 KiB / (100 + 1) KiB
        (8, 32, 0, 32, "blocks"),
        (8, 1024, 0, 2, "warps"),  # 64 / 32
    ],
)
def test_occupancy_is_that_of_the_vendors_calculator(
    registers: int, threads: int, shared: int, blocks: int, limiter: str
) -> None:
    found = occupancy(Resources(registers, 0), threads, shared, H200)
    assert (found.blocks, found.limiter) == (blocks, limiter)
