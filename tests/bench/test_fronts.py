"""Searches of two objectives on recordings that tell times and energies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fettle.bench.fronts import MARKS, WARM, bench_fronts
from fettle.bench.metrics import dominated_area
from fettle.cli.app import app
from fettle.graph.errors import InvalidArgument
from tests.backends.replay.samples import large, write


def told(path: Path, rows: slice, slower: float = 1.0) -> Path:
    """Some rows of :func:`large` with energies that are small where times are long, on a device that is slower."""
    document = json.loads(large(path).read_text())
    document["results"] = document["results"][rows]
    for row in document["results"]:
        if row["correctness"]:
            at, time = row["configuration"], row["measurements"][0]
            time["value"] *= slower
            joules = 1.0 + 0.1 * (at["a"] - 1) ** 2 + 0.07 * (at["b"] - 8) ** 2
            row["measurements"].append({"name": "energy", "value": joules, "unit": "J"})
    return write(path, document)


def test_the_area_below_a_corner_counts_each_step_of_the_front_once() -> None:
    assert dominated_area([(1.0, 3.0), (2.0, 2.0), (2.5, 2.5), (3.0, 1.0)], (4.0, 4.0)) == 3.0 + 2.0 + 1.0
    assert dominated_area([(5.0, 1.0)], (4.0, 4.0)) == 0.0


def test_whoever_tried_everything_has_the_whole_area(tmp_path: Path) -> None:
    for row in bench_fronts([told(tmp_path / "one.json", slice(0, 48))], 8, False, 2):
        assert row.sources == 0
        assert list(row.shares) == sorted(row.shares)
        assert row.shares[-1] == pytest.approx(1.0)
        assert row.errors[-1] == pytest.approx(0.0)


def test_trials_elsewhere_give_a_better_start(tmp_path: Path) -> None:
    """Each recording knows those of the other."""
    files = [told(tmp_path / "one.json", slice(0, None, 3)), told(tmp_path / "two.json", slice(0, None, 3), 2.0)]
    rows = {(row.space.split("/")[1], row.searcher): row for row in bench_fronts(files, 64, False, 1)}
    for space in ("one", "two"):
        assert rows[space, WARM].sources == 1
        assert rows[space, WARM].shares[0] > rows[space, "guided"].shares[0]


def test_without_energies_there_is_nothing_to_search(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="energies") as found:
        bench_fronts([large(tmp_path / "one.json")], 8, False, 1)
    assert "costmodel record" in found.value.hint


def test_the_command_prints_a_row_a_searcher(tmp_path: Path) -> None:
    told(tmp_path / "one.json", slice(0, 48))
    done = CliRunner().invoke(app, ["bench", "fronts", str(tmp_path), "--seeds", "1", "--json"])
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    assert printed["marks"] == list(MARKS)
    assert [row["searcher"] for row in printed["rows"]] == ["guided", "nsga2", "random"]
    drawn = CliRunner().invoke(app, ["bench", "fronts", str(tmp_path), "--seeds", "1", "--drawn"])  # as a table
    assert drawn.exit_code == 0, drawn.output
