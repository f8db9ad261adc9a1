"""The lottery counts wins and quartiles over complete rounds, and stops where it is told to."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from fettle.backends.api import Measurement, Outcome
from fettle.bench import lottery as module
from fettle.bench.lottery import Lottery
from fettle.cli.app import main
from fettle.graph.errors import InvalidArgument, Unavailable, Unsupported
from fettle.search.explore import Evaluation
from fettle.store.parquet import parquet_file
from tests.backends.replay.samples import BROKEN, TIMES, t4, write

ORDER = list(TIMES)
OPTIMUM = TIMES[4, 2]


def scripted(monkeypatch: pytest.MonkeyPatch, scripts: dict[str, list[list[tuple[int, int]]]]) -> None:
    """Samplers that try given configurations, a list for each seed."""

    def explore(*_: Any, seed: int, sampler: str) -> list[Evaluation]:
        if sampler == "gp":
            raise Unsupported("torch is missing")
        return [
            Evaluation(
                ORDER.index(at),
                Measurement.failure(Outcome.COMPILE_ERROR, "as recorded")
                if at in BROKEN
                else Measurement(Outcome.OK, (TIMES[at] * 1e-3,)),
            )
            for at in scripts[sampler][seed]
        ]

    monkeypatch.setattr(module, "explore", explore)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "a.json", t4())


def test_standings_are_quartiles_and_shares_of_wins_with_ties_split(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, fair, best = (16, 1), (8, 2), (4, 2)
    scripted(monkeypatch, {"random": [[slow, best], [slow, slow]], "local": [[fair, best], [fair, fair]]})
    game = Lottery([file], ["random", "local"], 2, [2, 1])
    assert len(list(game.draw())) == game.searches == 4
    found = {(s.sampler, s.budget): s for s in game.standings()}
    assert found["local", 1].wins == 1.0
    assert (found["random", 2].wins, found["local", 2].wins) == (0.25, 0.75)  # a tie, and a defeat
    ratios = [1.0, OPTIMUM / TIMES[slow]]
    expected = np.quantile(ratios, (0.25, 0.5, 0.75))
    standing = found["random", 2]
    assert [standing.low, standing.median, standing.high] == pytest.approx(expected.tolist())
    assert [s.sampler for s in game.standings()] == ["local", "random"] * 2


def test_a_failure_counts_and_a_sampler_that_lacks_a_package_is_left_out(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, {"random": [[(1, 1), (4, 2)]]})
    game = Lottery([file], ["gp", "random"], 1, [1, 2])
    (ticket,) = game.draw()
    assert ticket.ratios == (0.0, 1.0)
    assert game.missing == {"gp": "torch is missing"}
    assert (game.rounds, len(game.standings())) == (1, 2)


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> object:
    monkeypatch.setattr(sys, "argv", ["fettle", "bench", "lottery", *words])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code


def test_the_command_exports_every_evaluation_and_prints_standings(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out.parquet"
    words = ["--only", "random,local", "--seeds", "3", "--budgets", "4,8", "--parquet", str(target), "--json"]
    assert run(monkeypatch, str(file), *words) in (0, None)
    printed = json.loads(capsys.readouterr().out)
    assert (printed["rounds"], printed["interrupted"], len(printed["standings"])) == (3, False, 4)
    rows = parquet.read_table(target).to_pylist()
    assert len(rows) == 2 * 3 * 8
    for row in rows:
        time = TIMES[ORDER[row["point"]]] if row["outcome"] == "ok" else None
        assert row["time_s"] == (None if time is None else pytest.approx(time * 1e-3))
    last = [row["ratio"] for row in rows if row["evaluation"] == 8 and row["sampler"] == "random"]
    (standing,) = [s for s in printed["standings"] if s["sampler"] == "random" and s["budget"] == 8]
    assert standing["median"] == pytest.approx(np.median(last))


def test_an_interrupt_reports_complete_rounds_only(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, calls = module.explore, []

    def interrupted(*args: Any, **options: Any) -> list[Evaluation]:
        calls.append(options)
        if len(calls) == 4:  # in the middle of the second round
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(module, "explore", interrupted)
    target = tmp_path / "out.parquet"
    words = ["--only", "random,local", "--budgets", "3", "--parquet", str(target), "--json"]
    assert run(monkeypatch, str(file), *words) == 130
    printed = json.loads(capsys.readouterr().out)
    assert (printed["rounds"], printed["interrupted"]) == (1, True)
    assert parquet.read_table(target).num_rows == 3 * 3


@pytest.mark.parametrize(
    ("samplers", "budgets"), [(["oracle"], [10]), ([], [10]), (["random"], []), (["random"], [10, 0])]
)
def test_bad_games_are_refused(file: Path, samplers: list[str], budgets: list[int]) -> None:
    with pytest.raises(InvalidArgument):
        Lottery([file], samplers, 1, budgets)


def test_a_parquet_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    with parquet_file(tmp_path / "out.parquet", module.schema()):
        pass
    assert (tmp_path / "out.parquet").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_parquet_file_that_cannot_be_finished_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="space"), parquet_file(tmp_path / "out.parquet", module.schema()) as append:
        append([{}["space"]])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(Unavailable, match="No such file"), parquet_file(tmp_path / "no" / "x", module.schema()):
        pass
