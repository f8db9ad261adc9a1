"""Defaults are among the fastest that were measured on a GPU: a claim about recorded numbers."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fettle.bench.defaults import DefaultRow, bench_defaults
from fettle.bench.predictions import RECORDED
from fettle.cli.app import app
from fettle.graph.errors import NotFound

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")

LATER = [RECORDED / folder for folder in ("fifth", "sixth", "seventh")]
"""Recorded with kernels much as they are now."""


@pytest.fixture(scope="module")
def rows() -> tuple[DefaultRow, ...]:
    return bench_defaults(LATER)


def test_defaults_that_were_measured_are_within_four_percent_of_the_best(rows: tuple[DefaultRow, ...]) -> None:
    measured = [row for row in rows if row.share is not None]
    assert len(measured) >= 15
    assert {row.workload: row.share for row in measured if row.share < 0.96} == {}


def test_eight_bits_start_with_k_in_four_parts(rows: tuple[DefaultRow, ...]) -> None:
    """Programs that take much shared memory are many and short, so that the last leave little idle."""
    (row,) = (row for row in rows if "weight=u8:128" in row.workload)
    assert row.default_s == row.best_s == pytest.approx(58.28e-6, abs=1e-8)


def test_the_command_prints_them_and_refuses_what_is_no_folder_of_trials(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["bench", "defaults", str(RECORDED / "seventh"), "--json"])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout.splitlines()[-1])["rows"]
    assert {row["folder"] for row in rows} == {"seventh"}
    with pytest.raises(NotFound):
        bench_defaults([tmp_path])
