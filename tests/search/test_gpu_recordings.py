"""Tuning on GPU spaces, without a GPU: the default sampler on what an H200 was measured to do."""

from __future__ import annotations

import gzip
import json
import math
import statistics

import attrs
import numpy as np
import pytest

from fettle.backends.api import DeviceText, Record
from fettle.backends.replay import ReplayBackend
from fettle.backends.replay.files import read_recording
from fettle.backends.spaces import enumerate_space
from fettle.bench.metrics import dominated_area
from fettle.bench.predictions import RECORDED, TRIALS
from fettle.costmodel.transfer import Trials
from fettle.graph import codec
from fettle.graph.workload import Workload
from fettle.search.explore import explore
from fettle.search.samplers import DEFAULT, SAMPLERS, Observation, Problem
from fettle.search.samplers.joined import make_front_prior
from fettle.search.samplers.pareto import for_several

SEEDS = range(5)


def ratios(name: str, sampler: str, evaluations: int) -> list[float]:
    """Optimum over best found, a seed each."""
    backend = ReplayBackend()
    device = backend.device(DeviceText("replay", str(RECORDED / f"{name}.json.gz")))
    recording = backend.recording(device)
    found = []
    for seed in SEEDS:
        tried = explore(backend, Workload.parse("recorded"), device, evaluations, seed=seed, sampler=sampler)
        times = [recording.rows[one.point].objective for one in tried]
        found.append(recording.optimum / min(time for time in times if time is not None))
    return found


@pytest.mark.parametrize(
    "name",
    ["first/m1-n4096-k4096-f16-u4g128", "first/m1-n11008-k4096-f16-u4g128", "second/m1-n11008-k4096-bf16-u4g128"],
)
def test_a_third_of_the_space_finds_nearly_the_best(name: str) -> None:
    guided, random = (statistics.fmean(ratios(name, sampler, 30)) for sampler in ("guided", "random"))
    assert guided >= 0.95
    assert guided >= random


def trade_offs(name: str) -> tuple[Problem, list[tuple[float, float]]]:
    """A recorded space, and of each point log(seconds) and log(bytes of shared memory that its kernel takes)."""
    recording = read_recording(RECORDED / f"{name}.json.gz")
    with gzip.open((RECORDED / name).parent / TRIALS) as lines:
        records = [codec.from_data(Record, json.loads(line)) for line in lines]
    figures = {
        record.candidate.schedule: (math.log(record.measurement.time), math.log(dict(record.features)["code_shared"]))
        for record in records
        if str(record.candidate.workload) == recording.workload and record.verified
    }
    points = enumerate_space(recording.space)
    problem = Problem(points, recording.first_valid, objectives=2)
    return problem, [figures[points[index]] for index in range(points.size)]


def search(
    problem: Problem, figures: list[tuple[float, float]], sampler_name: str, seed: int, batches: int
) -> list[tuple[float, float]]:
    """What was found in batches of eight."""
    sampler = for_several(SAMPLERS[sampler_name], problem, seed)
    found: list[tuple[float, float]] = []
    for _ in range(batches):
        tried = [proposal.index for proposal in sampler.propose(8)]
        found += [figures[index] for index in tried]
        sampler.tell([Observation(index, figures[index][0], figures[index][1:]) for index in tried])
    return found


@pytest.mark.parametrize(
    "name",
    ["first/m1-n4096-k4096-f16-u4g128", "first/m16-n11008-k4096-bf16-u4g128", "second/m1-n11008-k4096-bf16-u4g128"],
)
def test_a_third_of_the_space_has_nearly_the_whole_front_of_time_and_shared_memory(name: str) -> None:
    problem, figures = trade_offs(name)
    corner = max(time for time, _ in figures) + 0.1, max(size for _, size in figures) + 0.1

    def covered(sampler_name: str, seed: int) -> float:
        """Share of the area that the whole space dominates."""
        found = search(problem, figures, sampler_name, seed, batches=4)
        return dominated_area(found, corner) / dominated_area(figures, corner)

    guided, random = (statistics.fmean(covered(sampler, seed) for seed in SEEDS) for sampler in ("guided", "random"))
    assert guided > 0.9
    assert guided > 1.04 * random


def test_another_shape_gives_the_search_of_both_a_better_start() -> None:
    problem, figures = trade_offs("first/m1-n4096-k4096-f16-u4g128")
    other, known = trade_offs("first/m1-n11008-k4096-f16-u4g128")
    times, sizes = np.array(known).T
    schedules = tuple(other.points[index] for index in range(other.points.size))
    fronts = make_front_prior(problem.points, [Trials(schedules, times, others=(sizes,))], 2)
    corner = max(time for time, _ in figures) + 0.1, max(size for _, size in figures) + 0.1

    def dominated(problem: Problem, seed: int) -> float:
        return dominated_area(search(problem, figures, DEFAULT, seed, batches=2), corner)

    warm, cold = (
        statistics.fmean(dominated(attrs.evolve(problem, fronts=prior), seed) for seed in range(3))
        for prior in (fronts, None)
    )
    assert warm > 1.1 * cold
