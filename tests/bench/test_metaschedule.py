"""The MetaSchedule baseline: what it is for, and what it needs."""

from __future__ import annotations

import pytest

from fettle.bench import metaschedule
from fettle.graph.errors import Unsupported
from fettle.graph.workload import Workload


def test_only_float32_matmuls_of_two_dynamic_operands_are_searched() -> None:
    for text in ("softmax rows=4 cols=4 act=f32", "matmul m=1 n=32 k=32 act=f32 weight=u4:32"):
        assert metaschedule.rival(Workload.parse(text), (), 1, 1, 0) == []


def test_without_its_cost_model_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metaschedule.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Unsupported) as caught:
        metaschedule.rival(Workload.parse("matmul m=4 n=4 k=4 act=f32 rhs=f32"), (), 1, 1, 0)
    assert caught.value.hint == "pip install xgboost"
