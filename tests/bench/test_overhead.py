"""What proposals cost: what is counted, and what is asked of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fettle.bench import overhead
from fettle.bench.overhead import FAILURES, Overhead, measure_overhead
from fettle.cli.app import app
from tests.backends.replay.samples import large


def test_times_are_of_a_candidate_and_memory_is_the_samplers() -> None:
    in_batches, in_threes = (measure_overhead(10**4, 0.2, batch, 24) for batch in (8, 3))
    for found in (in_batches, in_threes):
        assert 0.0 < found.mean <= found.longest
        assert found.p95 <= found.longest
    # the model's rows at 10⁴ points, in single precision, and little else of that size
    assert 24 * 10**4 * 4 < in_batches.peak < 40 * 2**20


def test_random_proposals_need_no_model() -> None:
    assert measure_overhead(10**4, 0.0, 8, 24, "random").peak < 2**20


def test_the_mean_is_held_to_the_aim_of_the_size() -> None:
    def met(points: int, mean: float) -> bool:
        return Overhead(points, 0.0, 8, 400, mean, 1.0, 1.0, 1).mark().met

    assert met(10**4, 0.019)
    assert not met(10**4, 0.021)
    assert met(10**6, 0.099)
    assert not met(10**6, 0.101)


def test_the_search_benchmark_prints_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overhead, "AIMS", {100: 0.5, 1000: 0.5})
    large(tmp_path / "one.json")
    words = ["bench", "search", str(tmp_path), "--only", "random", "--seeds", "1", "--overhead", "4"]
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    assert [(c["points"], c["failures"], c["batch"]) for c in printed["overhead"]] == [
        (points, failures, batch) for points in (100, 1000) for failures in FAILURES for batch in (8, 1)
    ]
    assert sum(mark["aim"].startswith("seconds a candidate") for mark in printed["marks"]) == 8
    assert CliRunner().invoke(app, words).exit_code == 0  # the table is drawn
