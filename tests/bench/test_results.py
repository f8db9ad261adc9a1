"""Verdicts: geometric means, targets, what could not be timed."""

from __future__ import annotations

import math

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fettle.bench.goals import GROUPS, SHAPES, Case, Goal, goals
from fettle.bench.metrics import geometric_mean, normalised_error
from fettle.bench.peers import PEERS
from fettle.bench.results import CaseResult, judge

GOAL = Goal("work", "gemv", (Case("A", ""), Case("B", "")), (), target=0.5, of_roof=0.9)


def case(label: str, ratio: float | None, of_roof: float | None = 0.95) -> CaseResult:
    return CaseResult(label, "", seconds=1.0, ratio=ratio, of_roof=of_roof)


def test_geometric_mean_of_two_and_a_half_is_one() -> None:
    assert geometric_mean([2.0, 0.5]) == pytest.approx(1.0)


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=8))
def test_geometric_mean_is_the_root_of_the_product(ratios: list[float]) -> None:
    assert geometric_mean(ratios) ** len(ratios) == pytest.approx(math.prod(ratios), rel=1e-9)


def test_normalised_error_is_relative_to_the_energy_of_the_result() -> None:
    assert normalised_error(np.array([1.0, 2.0]), np.array([0.0, 2.0])) == pytest.approx(0.25)
    assert normalised_error(np.zeros(2), np.zeros(2)) == 0.0
    assert normalised_error(np.array([math.nan]), np.ones(1)) == math.inf


def test_ratio_above_the_target_is_a_miss() -> None:
    row = judge(GOAL, 1, [case("A", 0.4), case("B", 0.8)])
    assert row.ratio == pytest.approx(math.sqrt(0.4 * 0.8))
    assert row.reached is False
    assert row.roof_reached is True


def test_ratio_at_the_target_passes() -> None:
    assert judge(GOAL, 1, [case("A", 0.5), case("B", 0.5)]).reached is True


def test_one_case_below_the_roof_misses_the_roof() -> None:
    row = judge(GOAL, 1, [case("A", 0.1, 0.99), case("B", 0.1, 0.5)])
    assert (row.reached, row.of_roof, row.roof_reached) == (True, 0.5, False)


def test_goal_with_an_untimed_case_is_not_judged() -> None:
    row = judge(GOAL, 1, [case("A", 0.1), CaseResult("B", "", missing="not supported: no such operator")])
    assert row.ratio == pytest.approx(0.1)
    assert row.reached is None
    assert row.roof_reached is None


def test_goal_of_which_only_some_cases_were_timed_is_not_judged() -> None:
    row = judge(GOAL, 1, [case("A", 0.1)])
    assert (row.ratio, row.reached, row.of_roof, row.roof_reached) == (pytest.approx(0.1), None, 0.95, None)


def test_goal_without_any_time_has_no_ratio() -> None:
    row = judge(GOAL, 1, [CaseResult("A", "", missing="x"), CaseResult("B", "", missing="x")])
    assert (row.ratio, row.reached, row.of_roof) == (None, None, None)


def test_goal_without_a_target_is_not_judged() -> None:
    row = judge(attrs.evolve(GOAL, target=None), 1, [case("A", 0.1), case("B", 0.1)])
    assert row.reached is None


def test_every_goal_names_known_peers_or_a_rival_of_ours() -> None:
    for goal in goals(GROUPS, tuple(SHAPES)):
        assert goal.target is not None
        assert set(goal.peers) <= set(PEERS)
        assert all(goal.peers or found.rival for found in goal.cases)


def test_only_the_asked_groups_and_shapes_are_benched() -> None:
    chosen = goals(("gemm",), ("A", "D"))
    assert {goal.group for goal in chosen} == {"gemm"}
    assert all([found.label for found in goal.cases] == ["A", "D"] for goal in chosen)
