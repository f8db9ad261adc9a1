"""Models of trials elsewhere are fitted once, and again when the trials change."""

from __future__ import annotations

import logging

import attrs
import numpy as np
import pytest

from fettle.backends.spaces import enumerate_space
from fettle.costmodel import files, transfer
from fettle.costmodel.columns import ScheduleColumns
from fettle.costmodel.transfer import Source, Trials
from fettle.costmodel.trees import BoostedTrees
from fettle.graph.errors import DataLoss
from tests.search.synthetic import DEVICE, SyntheticBackend, workload

BACKEND = SyntheticBackend()
SPACE = BACKEND.space(workload(), DEVICE)
POINTS = enumerate_space(SPACE)
COLUMNS = ScheduleColumns(SPACE)
ORIGIN = "5a" * 32


class Kept(dict[str, bytes]):
    """Models in a dictionary."""

    get_model = dict.get
    put_model = dict.__setitem__


def trials(count: int, origin: str = ORIGIN) -> Trials:
    schedules = tuple(POINTS[i] for i in POINTS.sample(np.random.default_rng(0), count))
    return Trials(schedules, np.log([BACKEND.seconds(workload(), s) for s in schedules]), origin)


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of trials of each fit."""
    made: list[int] = []
    real = Source._fit

    def fit(self: Source) -> files.SourceModel:
        made.append(len(self._rows))
        return real(self)

    monkeypatch.setattr(transfer.Source, "_fit", fit)
    return made


PLACES = COLUMNS.matrix(POINTS, range(0, 2000, 50))


@pytest.mark.parametrize("count", [40, 220])  # a process, and trees
def test_a_model_of_unchanged_trials_is_taken_from_where_it_was_kept(count: int, fits: list[int]) -> None:
    kept = Kept()
    first = Source(COLUMNS, trials(count), kept).predict(PLACES)
    assert len(kept) == 1
    again = Source(COLUMNS, trials(count), kept)
    np.testing.assert_array_equal(again.predict(PLACES), first)
    again.predict(PLACES[:3])
    assert fits == [count]
    np.testing.assert_array_equal(Source(COLUMNS, trials(count)).predict(PLACES), first)


def test_changed_trials_are_learned_anew_and_replace_the_model(fits: list[int]) -> None:
    kept = Kept()
    Source(COLUMNS, trials(40), kept).predict(PLACES)
    Source(COLUMNS, trials(41), kept).predict(PLACES)
    one = trials(41)
    slower = attrs.evolve(one, values=one.values + 0.1 * np.arange(41))
    Source(COLUMNS, slower, kept).predict(PLACES)
    Source(COLUMNS, slower, kept).predict(PLACES)
    assert fits == [40, 41, 41]
    assert len(kept) == 1


def test_another_origin_and_other_columns_have_models_of_their_own(fits: list[int]) -> None:
    kept = Kept()
    Source(COLUMNS, trials(40), kept).predict(PLACES)
    Source(COLUMNS, trials(40, "b0" * 32), kept).predict(PLACES)
    small = SyntheticBackend(small=True).space(workload(), DEVICE)
    other = ScheduleColumns(small)
    Source(other, trials(40), kept).predict(other.matrix(enumerate_space(small), range(9)))
    assert len(kept) == len(fits) == 3
    Source(COLUMNS, trials(40, ""), kept).predict(PLACES)  # of no known origin: not kept
    assert len(kept) == 3


def test_a_damaged_model_is_said_and_replaced(fits: list[int], caplog: pytest.LogCaptureFixture) -> None:
    kept = Kept()
    expected = Source(COLUMNS, trials(40), kept).predict(PLACES)
    (key,) = kept
    kept[key] = kept[key][:-7]
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(Source(COLUMNS, trials(40), kept).predict(PLACES), expected)
    assert "no cost model" in caplog.text
    assert files.load_source(kept[key])
    assert len(fits) == 2


def test_sources_that_say_nothing_are_left_out_and_errors_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    alike = attrs.evolve(trials(40), values=np.zeros(40))
    assert transfer.make_prior(POINTS, [trials(7), alike]) is None
    prior = transfer.make_prior(POINTS, [trials(7), alike, trials(40)])
    assert prior is not None
    assert prior.trend(PLACES).shape == (len(PLACES), 1)

    def broken(self: ScheduleColumns, schedules: object) -> np.ndarray:
        raise np.linalg.LinAlgError("singular")

    monkeypatch.setattr(ScheduleColumns, "of", broken)
    with pytest.raises(np.linalg.LinAlgError):
        transfer.make_prior(POINTS, [trials(40)])


def test_a_cost_model_is_no_model_of_a_source() -> None:
    trees = BoostedTrees.fit(PLACES, PLACES[:, 0], 0)
    assert b"pickle" not in files.dump_source(trees, "x")
    with pytest.raises(DataLoss, match="kind"):
        files.load_source(files.codec.encode({"version": files.VERSION, "kind": "process"}))
