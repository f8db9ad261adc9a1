"""Interleaved timing under a clock of the test's own."""

from __future__ import annotations

import pytest

from fettle.bench import timing


class Clock:
    """Time passes only when a rival runs or somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept = 0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(timing, "time", made)
    return made


def test_medians_are_seconds_a_call_and_rests_do_not_count(clock: Clock) -> None:
    def costs(seconds: float) -> None:
        clock.now += seconds

    timed = timing.interleave({"fast": lambda: costs(0.001), "slow": lambda: costs(0.004)}, rounds=5)
    assert timed.medians == pytest.approx({"fast": 0.001, "slow": 0.004})
    assert timed.ratio("fast", "slow") == pytest.approx(0.25)
    assert clock.slept == 10


def test_order_of_the_rivals_alternates(clock: Clock) -> None:
    calls: list[str] = []

    def run(name: str) -> None:
        clock.now += 1.0
        if not calls or calls[-1] != name:
            calls.append(name)

    timing.interleave({"a": lambda: run("a"), "b": lambda: run("b")}, rounds=3)
    assert calls == ["a", "b", "a", "b"]


def test_ratio_is_the_median_of_neighbouring_pairs() -> None:
    timed = timing.Timed({}, {"a": (1.0, 10.0, 1.0), "b": (2.0, 20.0, 1.0)})
    assert timed.ratio("a", "b") == 0.5


def test_rivals_rest_once_before_all_they_can_do(clock: Clock) -> None:
    def costs(seconds: float) -> None:
        clock.now += seconds

    ours = {"a": lambda: costs(0.001), "b": lambda: costs(0.002)}
    found = timing.interleave_groups({"ours": ours, "theirs": {"b": lambda: costs(0.004)}}, rounds=3)
    assert found["ours"] == pytest.approx({"a": 0.001, "b": 0.002})
    assert found["theirs"] == pytest.approx({"b": 0.004})
    assert clock.slept == 6


def test_the_shortest_round_counts_where_rivals_do_several_things(clock: Clock) -> None:
    def disturbed_at_first() -> None:
        clock.now += 0.08 if clock.now < 1.0 else 0.002

    found = timing.interleave_groups({"ours": {"a": disturbed_at_first}}, rounds=5)
    assert found["ours"]["a"] == pytest.approx(0.002)
