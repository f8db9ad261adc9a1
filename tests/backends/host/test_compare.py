from __future__ import annotations

import pytest
from helpers import artifact

from fettle.backends.api import Outcome
from fettle.backends.host.executor import Session
from fettle.graph.errors import InvalidArgument


def test_kernels_take_turns_and_every_other_round_runs_backwards(session: Session) -> None:
    # a sample of these kernels is the number of the call of Backend.measure in which it was taken
    measurements = session.compare([artifact(run="order", tag=tag) for tag in range(3)], rounds=4)
    turns = sorted((number, slot) for slot, m in enumerate(measurements) for number in m.samples)
    assert [slot for _, slot in turns] == [0, 1, 2, 2, 1, 0, 0, 1, 2, 2, 1, 0]
    assert len({dict(m.counters)["pid"] for m in measurements}) == 1


def test_one_that_fails_does_not_lose_the_others(session: Session) -> None:
    hows = ["ok", "later", "hang", "wrong", "raise", "ok"]
    measurements = session.compare([artifact(run=how, tag=tag) for tag, how in enumerate(hows)], rounds=3)
    assert [m.outcome for m in measurements] == [
        Outcome.OK,
        Outcome.CRASH,
        Outcome.TIMEOUT,
        Outcome.WRONG_RESULT,
        Outcome.RUN_ERROR,
        Outcome.OK,
    ]
    assert [len(m.samples) for m in measurements] == [3, 0, 0, 0, 0, 3]
    assert len({dict(m.counters)["pid"] for m in measurements if m.ok}) == 1


def test_all_may_fail(session: Session) -> None:
    measurements = session.compare([artifact(run="nan"), artifact(run="crash")], rounds=2)
    assert [m.outcome for m in measurements] == [Outcome.WRONG_RESULT, Outcome.CRASH]


def test_nothing_compares_to_nothing(session: Session) -> None:
    assert session.compare([], rounds=3) == []


def test_a_comparison_needs_a_round(session: Session) -> None:
    with pytest.raises(InvalidArgument):
        session.compare([artifact()], rounds=0)
