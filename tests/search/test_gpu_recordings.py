"""Tuning on GPU spaces, without a GPU: the default sampler on what an H200 was measured to do."""

from __future__ import annotations

import statistics

import pytest

from fettle.backends.api import DeviceText
from fettle.backends.replay import ReplayBackend
from fettle.bench.predictions import RECORDED
from fettle.graph.workload import Workload
from fettle.search.explore import explore

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
