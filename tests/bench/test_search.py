"""The comparison of searches: what it counts, and what it concludes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from fettle.backends.replay.files import read_recording
from fettle.bench.search import DEFAULT, MARKS, WARM, Run, SearchReport, compare, ratios
from fettle.cli.app import main
from fettle.graph.errors import InvalidArgument
from tests.backends.replay.samples import BROKEN, TIMES, large, t4, write


def runs(searcher: str, *values: float, space: str = "a") -> list[Run]:
    """A run whose ratios at all marks are equal, one per value."""
    return [Run(space, searcher, seed, (value,) * len(MARKS)) for seed, value in enumerate(values)]


def test_ratios_are_optimum_over_best_at_each_mark_and_zero_before_a_valid_row(tmp_path: Path) -> None:
    recording = read_recording(write(tmp_path / "a.json", t4()))
    order = list(TIMES)
    broken, best = order.index(next(iter(BROKEN))), order.index((4, 2))
    slow = order.index((16, 1))
    assert ratios(recording, [broken] * 30) == (0.0,) * 4
    rows = [slow] * 20 + [best]
    assert ratios(recording, rows) == (TIMES[4, 2] / TIMES[16, 1], 1.0, 1.0, 1.0)


def test_ours_must_lead_the_best_peer_or_reach_enough() -> None:
    def met(ours: float, *peers: float) -> bool:
        report = SearchReport((*runs(DEFAULT, ours), *(r for i, p in enumerate(peers) for r in runs(f"p{i}", p))), {})
        return all(m.met for m in report.marks() if m.aim.startswith("cold"))

    assert met(0.90, 0.86, 0.5)
    assert not met(0.90, 0.88)
    assert met(0.985, 0.99)
    assert not met(0.97, 0.99)


def test_a_space_where_ours_is_worst_is_a_miss() -> None:
    everything = [*runs(DEFAULT, 0.99), *runs("p", 0.6), *runs(DEFAULT, 0.98, space="b"), *runs("p", 0.99, space="b")]
    missed = [m.aim for m in SearchReport(tuple(everything), {}).marks() if not m.met]
    assert missed == [f"not the worst on b, {mark} evaluations" for mark in (50, 100, 200)]


def test_means_are_over_seeds_and_spaces_and_warm_is_held_to_cold() -> None:
    report = SearchReport((*runs(DEFAULT, 0.9, 1.0), *runs(WARM, 0.96, 0.94)), {})
    assert report.mean(DEFAULT, 50) == pytest.approx(0.95)
    marks = {m.aim: m for m in report.marks()}
    assert marks["warm, 20 evaluations"].met
    assert marks["warm as good as cold on a, 100 evaluations"].met


def test_searchers_run_on_every_recording_and_warm_where_parameters_agree(tmp_path: Path) -> None:
    files = [large(tmp_path / "one.json"), large(tmp_path / "two.json.gz"), write(tmp_path / "other.json", t4())]
    changed = json.loads((tmp_path / "one.json").read_text())
    for row in changed["results"]:
        if row["correctness"]:
            row["measurements"][0]["value"] *= 2.0
    write(files[1], changed)
    report = compare(files, ["guided", "random"], 1)
    assert len(report.spaces) == 3
    assert {r.space.split("/")[1] for r in report.runs if r.searcher == WARM} == {"one", "two"}
    assert report.mean(WARM, 20) == 1.0  # the same optimum, twice as slow
    assert report.mean("guided", 200) > 0.98


def test_kernel_tuner_searches_the_recorded_rows(tmp_path: Path) -> None:
    pytest.importorskip("kernel_tuner")
    from fettle.bench.peers.kerneltuner import Simulation

    recording = read_recording(large(tmp_path / "a.json"))
    for strategy in ("random_sample", "adaptive_tabu_greywolf"):
        rows = Simulation(recording).search(strategy, 30, 0)
        assert len(set(rows)) == len(rows) == 30
        assert rows == Simulation(recording).search(strategy, 30, 0)
        assert any(recording.rows[row].objective is None for row in rows)  # failures cost it evaluations too


def test_unknown_searchers_and_equal_names_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", t4())
    with pytest.raises(InvalidArgument, match="oracle"):
        compare([path], ["oracle"], 1)
    with pytest.raises(InvalidArgument, match="same folder and name"):
        compare([path, path], ["random"], 1)


def test_the_command_prints_means_spaces_and_marks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "a.json", t4())
    words = ["bench", "search", str(tmp_path), "--only", "guided,random", "--seeds", "2", "--overhead", "0", "--json"]
    monkeypatch.setattr(sys, "argv", ["fettle", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code in (0, None)
    printed = json.loads(capsys.readouterr().out)
    assert printed["means"]["guided"]["50"] == 1.0
    assert next(iter(printed["spaces"].values())).keys() == {"guided", "random"}
    assert all(mark.keys() == {"aim", "value", "target", "met"} for mark in printed["marks"])
