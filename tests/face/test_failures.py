"""Failed trials of a job, as ``fettle jobs show`` lists them."""

from __future__ import annotations

import attrs

from fettle.backends.api import Outcome, Record
from fettle.cli.failures import failures
from fettle.graph.workload import Workload
from tests.store.samples import GEMV, SOFTMAX, record


def failed(outcome: Outcome, message: str, tile: int = 4, workload: Workload = GEMV) -> Record:
    trial = record(tile, outcome=outcome, workload=workload)
    return attrs.evolve(trial, measurement=attrs.evolve(trial.measurement, message=message))


def test_failures_that_differ_in_numbers_only_are_told_once_the_most_frequent_first() -> None:
    trials = [
        record(1),
        failed(Outcome.CRASH, "SIGSEGV\nStack of 7 lines"),
        failed(Outcome.WRONG_RESULT, "3 of 64 elements, first 1.5e-3", tile=8),
        failed(Outcome.WRONG_RESULT, "9 of 64 elements, first -2.0", tile=16),
        failed(Outcome.WRONG_RESULT, "3 of 64 elements, first 1.5e-3", workload=SOFTMAX),
    ]
    found = failures(trials)
    assert [(f.count, f.message) for f in found] == [
        (2, "3 of 64 elements, first 1.5e-3"),
        (1, "SIGSEGV"),
        (1, "3 of 64 elements, first 1.5e-3"),
    ]
    assert found[0].line() == f"2 × wrong_result of {GEMV}: 3 of 64 elements, first 1.5e-3 (order=nk tile=8)"
    assert found[1].json()["message"] == "SIGSEGV\nStack of 7 lines"


def test_trials_that_went_well_are_no_failures() -> None:
    assert failures([record(1), record(2)]) == []
