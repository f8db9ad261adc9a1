"""Tuning on GPU spaces, without a GPU: the default sampler on what an H200 was measured to do."""

from __future__ import annotations

import gzip
import json
import math
import statistics

import pytest

from fettle.backends.api import DeviceText, Record
from fettle.backends.replay import ReplayBackend
from fettle.backends.replay.files import read_recording
from fettle.backends.spaces import enumerate_space
from fettle.bench.predictions import RECORDED, TRIALS
from fettle.graph import codec
from fettle.graph.workload import Workload
from fettle.search.explore import explore
from fettle.search.samplers import SAMPLERS, Observation, Problem
from fettle.search.samplers.pareto import for_several
from tests.search.synthetic import dominated_area

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


@pytest.mark.parametrize(
    "name",
    ["first/m1-n4096-k4096-f16-u4g128", "first/m16-n11008-k4096-bf16-u4g128", "second/m1-n11008-k4096-bf16-u4g128"],
)
def test_a_third_of_the_space_has_nearly_the_whole_front_of_time_and_shared_memory(name: str) -> None:
    problem, figures = trade_offs(name)
    corner = max(time for time, _ in figures) + 0.1, max(size for _, size in figures) + 0.1

    def covered(sampler_name: str, seed: int) -> float:
        """Share of the area that the whole space dominates."""
        sampler = for_several(SAMPLERS[sampler_name], problem, seed)
        found: list[tuple[float, float]] = []
        for _ in range(4):
            tried = [proposal.index for proposal in sampler.propose(8)]
            found += [figures[index] for index in tried]
            sampler.tell([Observation(index, figures[index][0], figures[index][1:]) for index in tried])
        return dominated_area(found, corner) / dominated_area(figures, corner)

    guided, random = (statistics.fmean(covered(sampler, seed) for seed in SEEDS) for sampler in ("guided", "random"))
    assert guided > 0.9
    assert guided > 1.04 * random
