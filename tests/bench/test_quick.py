"""A quick search beside a long one, on a recording: deterministic, and cheap."""

from __future__ import annotations

from pathlib import Path

import pytest

from fettle.bench.quick import compare_quick, mean_share
from fettle.graph.workload import Workload
from fettle.search.lite import FEW_TRIALS
from tests.backends.replay import samples


def test_both_searches_start_from_nothing_and_their_winners_are_compared(tmp_path: Path) -> None:
    path = samples.large(tmp_path / "large.json.gz")
    told: list[str] = []
    row = compare_quick(
        Workload.of("recorded"), f"replay:{path}", trials=64, seconds=30.0, rounds=3, seed=0, show=told.append
    )
    assert (row.long_trials, row.quick_trials) == (64, FEW_TRIALS)
    assert row.share == pytest.approx(row.long_s / row.quick_s)
    assert row.long_s <= row.quick_s <= row.default_s
    assert row.met == (row.share >= 0.95)
    assert mean_share([row, row]) == pytest.approx(row.share)
    assert len(told) == 2
