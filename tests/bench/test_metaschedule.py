"""The MetaSchedule baseline: what it is for, what it needs, and what of its search is kept."""

from __future__ import annotations

import math

import pytest

from fettle.bench.peers import Effort, metaschedule
from fettle.bench.peers.metaschedule_search import Winners
from fettle.graph.errors import Unsupported
from fettle.graph.workload import Workload

MATMUL = Workload.parse("matmul m=4 n=4 k=4 act=f32 rhs=f32")
EFFORT = Effort(trials=3, seconds=10.0)


def test_only_float32_matmuls_of_two_dynamic_operands_are_searched() -> None:
    for text in ("softmax rows=4 cols=4 act=f32", "matmul m=1 n=32 k=32 act=f32 weight=u4:32"):
        assert metaschedule.rivals(Workload.parse(text), (), 1, EFFORT, 0) == []


@pytest.mark.parametrize(
    ("absent", "hint"),
    [("xgboost", "pip install xgboost-cpu"), ("tvm.s_tir.meta_schedule", "pip install apache-tvm==0.27.0.post1")],
)
def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, absent: str, hint: str) -> None:
    monkeypatch.setattr(metaschedule, "_is_installed", lambda module: module != absent)
    with pytest.raises(Unsupported) as caught:
        metaschedule.rivals(MATMUL, (), 1, EFFORT, 0)
    assert caught.value.hint == hint


def test_without_our_own_effort_nothing_can_be_equal_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metaschedule, "_is_installed", lambda module: True)
    with pytest.raises(Unsupported, match="spent"):
        metaschedule.rivals(MATMUL, (), 1, None, 0)


def test_a_module_of_a_package_that_is_missing_is_missing() -> None:
    assert not metaschedule._is_installed("no_such_package.part")
    assert metaschedule._is_installed("json.decoder")


class Search:
    """Trials, one a second."""

    def __init__(self) -> None:
        self.now = 0.0
        self.winners = Winners(EFFORT, lambda: self.now)

    def trial(self, name: str, seconds: float) -> None:
        self.now += 1.0
        self.winners.add(name, seconds)


def test_winners_are_those_of_the_trials_and_of_the_seconds() -> None:
    search = Search()
    for name, seconds in (("a", 5.0), ("failed", math.inf), ("b", 4.0), ("c", 3.0)):
        search.trial(name, seconds)
    assert not search.winners.are_final
    search.now = 9.0
    search.trial("d", 2.0)
    search.trial("too late", 1.0)
    assert search.winners.are_final
    assert search.winners.kept == {"trials": ("b", Effort(3, 3.0)), "seconds": ("d", Effort(5, 10.0))}


def test_seconds_without_a_valid_kernel_have_no_winner() -> None:
    search = Search()
    search.trial("failed", math.inf)
    search.now = 20.0
    search.trial("a", 1.0)
    assert search.winners.kept == {"trials": ("a", Effort(2, 21.0))}
