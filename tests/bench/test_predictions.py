"""Predictions rank what was measured on a GPU: a claim about recorded numbers, so it can be tested anywhere."""

from __future__ import annotations

import gzip
import importlib.util
import json
import statistics
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fettle.bench.predictions import RECORDED, TRIALS, bench_predictions, mean_spearman
from fettle.cli.app import app
from fettle.graph.errors import InvalidArgument, NotFound

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")


@needs_triton
def test_predictions_rank_the_trials_they_were_fitted_to() -> None:
    rows = bench_predictions([RECORDED / "first", RECORDED / "second"])
    assert sum(row.trials for row in rows) > 800
    assert mean_spearman(list(rows)) > 0.88
    assert all(row.spearman > 0.7 for row in rows), "attention and dense products included"


@needs_triton
def test_predictions_of_attention_and_dense_products_come_near() -> None:
    rows = [row for path in sorted(RECORDED.glob("*/trials.jsonl.gz")) for row in bench_predictions([path.parent])]
    others = [row for row in rows if "weight=u" not in row.workload]
    assert len(others) == 10
    assert statistics.fmean(row.error for row in others) < 0.12
    assert all(row.picks > 0.98 for row in others)


@needs_triton
@pytest.mark.parametrize("folder", ["third", "fourth", "fifth", "sixth", "seventh"])
def test_among_the_best_schedules_three_predictions_hold_one_of_the_fastest(folder: str) -> None:
    rows = [row for row in bench_predictions([RECORDED / folder]) if "weight=u" in row.workload]
    assert all(row.picks > 0.87 for row in rows)
    assert statistics.median(row.error for row in rows) < 0.14


@needs_triton
def test_folders_without_trials_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no recorded trials"):
        bench_predictions([tmp_path])
    (tmp_path / TRIALS).write_bytes(b"not gzip")
    with pytest.raises(InvalidArgument):
        bench_predictions([tmp_path])
    (tmp_path / TRIALS).write_bytes(gzip.compress(b"{"))
    with pytest.raises(InvalidArgument, match="line 1"):
        bench_predictions([tmp_path])


@needs_triton
def test_the_command_prints_them() -> None:
    done = CliRunner().invoke(app, ["bench", "predictions", str(RECORDED / "third"), "--json"])
    assert done.exit_code == 0, done.output
    assert len(json.loads(done.stdout.splitlines()[-1])["rows"]) == 7
