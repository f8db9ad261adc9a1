"""Predictions follow the resources they are made of. Expected times are worked out by hand from the data sheet."""

from __future__ import annotations

import attrs
import pytest

from fettle.backends.triton.predict import FITTED, Prediction, launch_terms, predict
from fettle.backends.triton.resources import Resources, occupancy
from fettle.backends.triton.targets import TARGETS
from tests.backends.triton.programs import kernel, program

H200 = TARGETS["sm_90"]


def seconds(**changes: object) -> float:
    found = predict(program(kernel(**changes)), H200)  # type: ignore[arg-type]
    assert isinstance(found, Prediction)
    return found.seconds


def test_much_traffic_takes_what_the_memory_takes() -> None:
    copied = 1e9 / (4.8e12 * FITTED.bandwidth)
    assert seconds(bytes=1e9, stages=3) == pytest.approx(copied + FITTED.launch, rel=0.02)


def test_arithmetic_takes_what_the_tensor_units_take() -> None:
    assert seconds(bytes=1.0, flops=989e12 * 1e-3, programs=132) == pytest.approx(1e-3 / FITTED.tensor, rel=0.01)


def test_products_that_a_pass_waits_for_hide_behind_another_programs_only() -> None:
    one = {"bytes": 1.0, "flops": 989e12 * 1e-3, "programs": 2 * 132, "trips": 100.0}
    alone, beside = ({**one, "shared": shared} for shared in (200_000, 0))
    assert seconds(**alone, flying=False) > 1.1 * seconds(**alone)
    assert seconds(**beside, flying=False) < 1.02 * seconds(**beside)


@pytest.mark.parametrize(("left_shared", "expected"), [(0.0, 64 * 16 * 2), (0.5, 64 * 16 * 2 + 1024), (1.0, 2 * 2048)])
def test_what_warpgroups_read_from_shared_memory_is_worked_out_by_hand(left_shared: float, expected: float) -> None:
    """One product of 64 x 64 x 16: both operands have 64 rows of 32 bytes, the left one in registers, half or not."""
    one = kernel(bytes=0.0, flops=132 * 2 * 64 * 64 * 16, programs=132, wgmma=1, left_shared=left_shared)
    terms = launch_terms(one, H200, 1)
    assert terms["shared"] == pytest.approx(expected / 128 / H200.clock)
    assert terms["tensor"] == pytest.approx(2 * 64 * 64 * 16 * 132 / 989e12 / FITTED.tensor)


def test_exponentials_take_issue_slots() -> None:
    terms = [launch_terms(kernel(bytes=0.0, programs=132, exponentials=e), H200, 1)["issue"] for e in (0, 4096)]
    assert terms[1] - terms[0] == pytest.approx(4096 / 16 / H200.clock)


def test_a_last_wave_that_is_nearly_empty_costs_a_whole_one() -> None:
    full = seconds(bytes=1.0, flops=1e12, programs=132)
    assert seconds(bytes=1.0, flops=1e12 * 133 / 132, programs=133) == pytest.approx(2 * full, rel=0.01)


def test_one_instruction_is_worked_out_by_hand() -> None:
    """One program a multiprocessor, one pass of 1000 instructions by four warps, nothing else."""
    found = predict(program(kernel(programs=132, bytes=0.0, instructions=1000, stages=3)), H200)
    assert isinstance(found, Prediction)
    terms = dict(found.terms)
    assert terms["issue"] == pytest.approx(FITTED.issue * 1000 / H200.clock)
    assert terms["latency"] == pytest.approx(FITTED.chain * 1000 / H200.clock)
    both = (terms["issue"] ** FITTED.norm + terms["latency"] ** FITTED.norm) ** (1 / FITTED.norm)
    assert found.seconds == pytest.approx(both + FITTED.prologue / H200.clock + FITTED.launch)


@pytest.mark.parametrize("change", [{"bytes": 2e8}, {"instructions": 10**5}, {"spills": 8, "instructions": 10**4}])
def test_more_of_anything_is_never_faster(change: dict[str, float]) -> None:
    base = {"instructions": 10**4} if "spills" in change else {}
    assert seconds(**base | change) > seconds(**base)


def test_every_launch_counts() -> None:
    found = predict(program(kernel(), kernel()), H200)
    assert isinstance(found, Prediction)
    assert found.seconds == pytest.approx(2 * seconds())


def test_a_dependent_launch_begins_before_the_one_before_it_ends() -> None:
    first, second = kernel(), kernel()
    dependent = attrs.evolve(second, launch=attrs.evolve(second.launch, dependent=True))
    apart, overlapping = (predict(program(first, one), H200) for one in (second, dependent))
    assert isinstance(apart, Prediction)
    assert isinstance(overlapping, Prediction)
    waves = -(-1320 // (132 * apart.occupancy))
    hidden = FITTED.launch + waves * FITTED.prologue / H200.clock
    assert apart.seconds - overlapping.seconds == pytest.approx(hidden)


def test_programs_beside_each_other_hide_latency() -> None:
    many = {"programs": 132 * 8, "trips": 100, "instructions": 1000, "warps": 1, "bytes": 1.0}
    assert seconds(**many) < 0.7 * seconds(**many | {"shared": 200_000})


def test_a_shallow_pipeline_waits_for_memory() -> None:
    assert seconds(programs=132, trips=1000, stages=2, bytes=1e7) > seconds(
        programs=132, trips=1000, stages=4, bytes=1e7
    )


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
