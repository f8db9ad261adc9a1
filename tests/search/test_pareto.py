"""Several objectives: the front is what no trial beats, searched by any sampler, kept with the job."""

from __future__ import annotations

import itertools
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fettle.backends.api import Schedule
from fettle.backends.replay.files import read_recording
from fettle.backends.spaces import enumerate_space
from fettle.bench.metrics import dominated_area
from fettle.cli.app import main
from fettle.graph import codec
from fettle.graph.errors import InvalidArgument
from fettle.search.objectives import unbeaten
from fettle.search.samplers import SAMPLERS, Observation, Problem
from fettle.search.samplers.optunas import Nsga2Sampler
from fettle.search.samplers.pareto import ParetoSampler, chebyshev, for_several
from fettle.store.jobs import JobState
from fettle.store.specs import JobSpec
from tests.backends.replay.samples import large, write
from tests.search.synthetic import DEFAULT, DEVICE, SyntheticBackend, workload
from tests.search.test_jobs import Bench
from tests.store.samples import spec

points = st.lists(st.tuples(*[st.integers(0, 6)] * 3), min_size=1, max_size=12).map(lambda rows: np.array(rows, float))


def beats(one: np.ndarray, two: np.ndarray) -> bool:
    return all(a <= b for a, b in zip(one, two, strict=True)) and any(a < b for a, b in zip(one, two, strict=True))


@given(points)
def test_the_front_is_what_nothing_beats_once_each_and_sorted(rows: np.ndarray) -> None:
    expected = sorted({tuple(row) for row in rows if not any(beats(other, row) for other in rows)})
    assert [tuple(rows[i]) for i in unbeaten(rows)] == expected


@given(points, st.lists(st.floats(0.01, 1.0), min_size=3, max_size=3))
def test_the_best_of_any_weights_is_on_the_front(rows: np.ndarray, weights: list[float]) -> None:
    best = rows[int(np.argmin(chebyshev(rows, np.array(weights))))]
    assert not any(beats(other, best) for other in rows)


def energy(schedule: Schedule) -> float:
    """Joules that large tiles and unrolling cost, but that time likes."""
    return float(schedule["tile_m"] * schedule["tile_n"] * schedule["unroll"] + 1)


def search(name: str, several: bool, seed: int, trials: int = 40) -> list[tuple[float, float]]:
    """log(time) and log(energy) of the trials of a search for both, or for time alone."""
    backend = SyntheticBackend()
    space = enumerate_space(backend.space(workload(), DEVICE))
    default = space.index(DEFAULT)
    assert default is not None
    make = SAMPLERS[name]
    problem = Problem(space, default, objectives=2 if several else 1)
    sampler = for_several(make, problem, seed) if several else make(problem, seed)
    found: list[tuple[float, float]] = []
    while len(found) < trials:
        for proposal in sampler.propose(8):
            assert not (several and proposal.predicted)  # no time is predicted when more than time is asked for
            schedule = space[proposal.index]
            found.append((math.log(backend.seconds(workload(), schedule)), math.log(energy(schedule))))
            sampler.tell([Observation(proposal.index, found[-1][0], (found[-1][1],))])
    return found


@pytest.mark.parametrize("name", ["guided", "local"])
def test_a_search_for_both_finds_more_of_the_front_than_one_for_time(name: str) -> None:
    both, one = (
        np.mean([dominated_area(search(name, several, seed), CORNER) for seed in (0, 1)]) for several in (True, False)
    )
    assert both > one


CORNER = math.log(workload().flops / 1e9) + 3.0, math.log(1e5)


@pytest.mark.parametrize(("name", "trials", "ahead"), [("guided", 40, 1.05), ("nsga2", 96, 1.0)])
def test_a_search_for_the_front_dominates_more_than_random_trials(name: str, trials: int, ahead: float) -> None:
    """Mean hypervolume over seeds."""
    seeds = range(3)
    ours = np.mean([dominated_area(search(name, True, seed, trials), CORNER) for seed in seeds])
    random = np.mean([dominated_area(search("random", True, seed, trials), CORNER) for seed in seeds])
    assert ours > ahead * random


@pytest.mark.parametrize(("name", "trials", "ahead"), [("guided", 64, 1.05), ("nsga2", 128, 1.01)])
def test_failures_without_a_pattern_cost_no_more_than_their_trials(
    name: str, trials: int, ahead: float, tmp_path: Path
) -> None:
    """A recording of times and energies by formula; every seventh of its schedules fails."""
    document = json.loads(large(tmp_path / "a.json").read_text())
    for row in document["results"]:
        at = row["configuration"]
        joules = 1.0 + 0.1 * (at["a"] - 1) ** 2 + 0.07 * (at["b"] - 8) ** 2 + 0.1 * at["d"]
        if row["correctness"]:
            row["measurements"].append({"name": "energy", "value": joules, "unit": "J"})
    recording = read_recording(write(tmp_path / "a.json", document))
    problem = Problem(enumerate_space(recording.space), recording.first_valid, objectives=2)

    def dominated(sampler_name: str, seed: int) -> float:
        sampler = for_several(SAMPLERS[sampler_name], problem, seed)
        found: list[tuple[float, float]] = []
        for _ in range(trials // 8):
            for proposal in sampler.propose(8):
                row = recording.rows[proposal.index]
                if row.objective is None or row.energy is None:
                    sampler.tell([Observation(proposal.index, math.inf)])
                    continue
                found.append((math.log(row.objective), math.log(row.energy)))
                sampler.tell([Observation(proposal.index, found[-1][0], (found[-1][1],))])
        return dominated_area(found, (math.log(8.0), math.log(12.0)))

    ours, random = (np.mean([dominated(which, seed) for seed in range(3)]) for which in (name, "random"))
    assert ours > ahead * random


def test_nsga2_ranks_fronts_by_itself_and_others_are_given_one_value() -> None:
    problem = Problem(enumerate_space(SyntheticBackend(small=True).space(workload(), DEVICE)), objectives=2)
    assert type(for_several(SAMPLERS["nsga2"], problem, 0)) is Nsga2Sampler
    assert type(for_several(SAMPLERS["guided"], problem, 0)) is ParetoSampler


@pytest.mark.parametrize("name", ["guided", "random", "tpe", "nsga2", "evolution", "local"])
def test_proposals_depend_on_the_seed_and_what_was_told_alone(name: str) -> None:
    backend = SyntheticBackend(small=True)
    problem = Problem(enumerate_space(backend.space(workload(), DEVICE)), objectives=2)
    told = [Observation(i, 0.1 * i, (-0.1 * i,)) for i in range(8)] + [Observation(9, math.inf)]
    one, two = (for_several(SAMPLERS[name], problem, 3) for _ in range(2))
    one.tell(told)
    for observation in told:
        two.tell([observation])
        two.propose(1)
    assert one.propose(4) == two.propose(4)
    assert {p.index for p in one.propose(99)}.isdisjoint(o.index for o in told)


def test_a_job_keeps_the_front_of_its_trials_and_the_fastest_kernel() -> None:
    bench = Bench(energy=energy)
    job = bench.run(bench.submit(trials=32, objectives=("energy", "latency")))
    (result,) = job.results
    records = bench.store.job_records(job.id, workload().key)
    figures = {(r.measurement.time, r.measurement.energy): r.candidate.schedule for r in records}
    expected = [f for f in sorted(figures) if not any(beats(np.array(o), np.array(f)) for o in figures)]
    assert [(t.seconds, t.joules) for t in result.front] == expected
    assert [t.schedule for t in result.front] == [figures[f] for f in expected]
    assert len(expected) > 2
    assert result.front[0].bytes is None
    assert result.best_s == result.front[0].seconds
    assert result.spearman is None
    again = bench.run(bench.submit(trials=4, objectives=("latency", "energy"), seed=1))
    assert not again.results[0].cached  # a cached kernel has no front


def test_size_is_the_artifacts() -> None:
    bench = Bench()
    (result,) = bench.run(bench.submit(trials=8, objectives=("latency", "size"))).results
    assert {t.bytes for t in result.front} == {64}  # the payload of a synthetic artifact


def test_what_a_device_does_not_tell_cannot_be_an_objective() -> None:
    bench = Bench()
    job = bench.run(bench.submit(objectives=("latency", "energy")))
    assert job.state is JobState.FAILED
    assert "does not tell the energy" in job.error
    assert len(bench.schedules()) == 1


def test_objectives_are_part_of_what_a_job_is_but_latency_alone_changes_nothing() -> None:
    several = spec(objectives=("energy", "latency"))
    assert several.objectives == ("latency", "energy")
    assert several.key != spec().key
    assert codec.from_data(JobSpec, codec.to_data(several)) == several
    older = {name: value for name, value in codec.to_data(spec()).items() if name != "objectives"}
    assert codec.from_data(JobSpec, older) == spec()
    for bad in (("latency", "fame"), ("energy",), ()):
        with pytest.raises(InvalidArgument):
            spec(objectives=bad)


def test_the_command_prints_the_trade_offs_of_a_simulated_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["tune", "matmul m=8 n=32 k=32 act=i8 weight=i8", "--device", "npu:systolic,rows=8,cols=8"]
    words += ["--trials", "8", "--objectives", "latency,energy", "--store", str(tmp_path / "s.sqlite3"), "--json"]
    monkeypatch.setattr(sys, "argv", ["fettle", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    printed = json.loads(capsys.readouterr().out)
    (row,) = printed["workloads"]
    assert row["front"][0]["seconds"] == row["best_s"]
    assert all(one["joules"] > two["joules"] for one, two in itertools.pairwise(row["front"]))
    words = ["jobs", "show", printed["job"], "--store", str(tmp_path / "s.sqlite3"), "--json"]
    monkeypatch.setattr(sys, "argv", ["fettle", *words])
    with pytest.raises(SystemExit):
        main()
    assert json.loads(capsys.readouterr().out)["workloads"] == printed["workloads"]
