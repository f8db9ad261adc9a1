"""One layout for a distribution of row counts: the right one, for every row count, in the cache."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, cast

import attrs
import pytest

import fettle
from fettle.backends.api import Artifact, Backend, Candidate, Device, Measurement, MeasurePolicy, Outcome, Schedule
from fettle.backends.spaces import enumerate_space
from fettle.graph.errors import Conflict, InvalidArgument
from fettle.graph.workload import Workload
from fettle.search.distribution import Distribution, normalised, tune_distribution
from fettle.search.layoutrace import Entrant
from fettle.store.lookup import lookup
from fettle.store.memory import MemoryStore
from tests.search.synthetic import DEVICE, SyntheticBackend, SyntheticExecutor

TEMPLATE = "matmul n=256 k=256 act=f32 weight=f32"


class LayoutBackend(SyntheticBackend):
    """``tile_n`` is the packed layout; few rows like narrow tiles, many rows wide ones. Other parameters are mild."""

    def weight_layout(self, workload: Workload, device: Device, schedule: Schedule) -> str:
        return f"n{schedule['tile_n']}"

    def build(self, candidate: Candidate) -> Artifact:
        return attrs.evolve(super().build(candidate), weight_layout=f"n{candidate.schedule['tile_n']}")

    def seconds(self, workload: Workload, schedule: Schedule) -> float:
        liked = 4 if workload["m"] < 8 else 16
        away = abs(math.log2(schedule["tile_n"] / liked))
        return workload["m"] * 1e-3 * (1 + 0.3 * away) * (1 + 0.01 * schedule["tile_m"] + 0.02 * schedule["unroll"])


def tune(
    distribution: dict[int, float], trials: int, store: MemoryStore | None = None, backend: LayoutBackend | None = None
) -> Distribution:
    backend = backend or LayoutBackend(small=True)

    def executor(made_for: Backend, device: Device) -> SyntheticExecutor:
        return SyntheticExecutor(backend)

    return tune_distribution(
        store or MemoryStore(), TEMPLATE, distribution, DEVICE, "synthetic",
        trials=trials, executor_factory=executor, backend=backend,
    )  # fmt: skip


def brute_force(distribution: dict[int, float]) -> tuple[str, float]:
    backend = LayoutBackend(small=True)
    totals = {}
    for tile in (4, 8, 16):
        total = 0.0
        for m, weight in distribution.items():
            workload = Workload.parse(f"{TEMPLATE} m={m}")
            points = enumerate_space(backend.space(workload, DEVICE))
            total += weight * min(backend.seconds(workload, s) for s in points if s["tile_n"] == tile)
        totals[f"n{tile}"] = total
    return min(totals.items(), key=lambda item: item[1])


@pytest.mark.parametrize("weights", [{1: 0.999, 16: 0.001}, {1: 0.95, 4: 0.04, 16: 0.01}])
def test_the_layout_has_the_least_expected_time_of_all(weights: dict[int, float]) -> None:
    found = tune(weights, trials=27)
    layout, seconds = brute_force(weights)
    assert found.layout == layout
    assert found.expected_s == pytest.approx(seconds)
    assert all(choice.schedule["tile_n"] == int(layout[1:]) for choice in found.choices)


@pytest.mark.parametrize("weights", [{1: 1.0}, {1: 0.5, 16: 0.5}])
def test_layouts_that_artifacts_do_not_have_are_refused(weights: dict[int, float]) -> None:
    class Forgetful(LayoutBackend):
        def weight_layout(self, workload: Workload, device: Device, schedule: Schedule) -> str:
            return Backend.weight_layout(self, workload, device, schedule)

    with pytest.raises(Conflict, match="are packed as '', and its artifact 'n"):
        tune(weights, trials=27, backend=Forgetful(small=True))


def test_a_template_has_no_rows_of_its_own() -> None:
    with pytest.raises(InvalidArgument, match="says m"):
        tune_distribution(MemoryStore(), "matmul m=1 n=256 k=256 act=f32 weight=f32", {1: 1.0}, DEVICE, "synthetic")


def test_every_row_count_on_its_own_would_be_no_slower() -> None:
    found = tune({1: 0.5, 16: 0.5}, trials=27)
    assert {choice.best_layout for choice in found.choices} == {"n4", "n16"}
    assert found.unconstrained_s < found.expected_s
    assert found.unconstrained_s == pytest.approx(sum(c.probability * c.best_s for c in found.choices))


def test_a_layout_some_row_count_never_tried_is_measured_for_it() -> None:
    store = MemoryStore()
    tune({1: 1.0}, trials=27, store=store)
    found = tune({1: 0.5, 16: 0.5}, trials=1, store=store)  # many rows get the default schedule, of n8, and no more
    many = [r.candidate.schedule for r in store.records() if r.candidate.workload["m"] == 16]
    assert many[-1]["tile_n"] == 8
    assert any(schedule["tile_n"] == 4 for schedule in many[:-1])
    assert {"n4", "n8"} <= set(dict(found.layouts))
    assert [seconds for _, seconds in found.layouts] == sorted(seconds for _, seconds in found.layouts)


def test_the_cache_serves_the_chosen_kernels() -> None:
    store = MemoryStore()
    found = tune({1: 0.5, 16: 0.5}, trials=27, store=store)
    for choice in found.choices:
        kernel = lookup(store, Workload.parse(f"{TEMPLATE} m={choice.m}"), DEVICE).kernel
        assert kernel is not None
        assert kernel.schedule == choice.schedule
        assert store.get_artifact(kernel.artifact_sha256).schedule == choice.schedule


def test_weights_are_normalised_and_senseless_ones_rejected() -> None:
    assert normalised({128: 1.0, 1: 3.0}) == {1: 0.75, 128: 0.25}
    senseless: list[Any] = [{}, {0: 1.0}, {1: 0.0}, {1: -1.0}, {1: math.inf}, {1: math.nan}, {"1": 1.0}, {1: "1"}, [1]]
    for distribution in senseless:
        with pytest.raises(InvalidArgument):
            normalised(distribution)


def test_a_template_with_rows_of_its_own_is_rejected() -> None:
    with pytest.raises(InvalidArgument):
        fettle.tune_distribution(f"{TEMPLATE} m=4", {1: 1.0}, "cpu", store=MemoryStore())


@pytest.mark.parametrize(("default_s", "other_s"), [(1e-3, 2e-3), (2e-3, 1e-3)])
def test_the_default_is_measured_along_and_is_the_kernel_of_its_layout_where_it_is_faster(
    default_s: float, other_s: float
) -> None:
    class Race:
        def build(self, candidates: list[Candidate]) -> list[Any]:
            return [SimpleNamespace(artifact=backend.build(candidate)) for candidate in candidates]

        def compare(self, artifacts: list[Artifact], rounds: int) -> list[Measurement]:
            times = [default_s if artifact.schedule == default else other_s for artifact in artifacts]
            return [Measurement(Outcome.OK, (seconds,) * rounds) for seconds in times]

    store, backend = MemoryStore(), LayoutBackend(small=True)
    tune({1: 1.0}, trials=27, store=store)
    workload = Workload.parse(f"{TEMPLATE} m=1")
    default = backend.default(workload, DEVICE)
    (job,) = store.jobs()
    entrant = Entrant(store, backend, DEVICE, MeasurePolicy(), workload, 1.0, job.id, seed=0)
    assert entrant.best.layout != "n8"  # the default's: so this is not what the cache has already
    found, _ = entrant.settle("n8", cast(Any, Race()))
    kernel = lookup(store, workload, DEVICE).kernel
    assert kernel is not None
    assert (found.schedule == default) is (default_s < other_s)
    assert (kernel.schedule, kernel.default_s, kernel.best_s) == (found.schedule, default_s, min(default_s, other_s))
