from __future__ import annotations

import math
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from fake_backend import DEVICE
from helpers import POLICY, QUANTISED, artifact, candidate, evaluate

from fettle.backends.api import Outcome
from fettle.backends.host.executor import Executor, Session, TrialResult
from fettle.graph import data
from fettle.graph.errors import Conflict
from fettle.graph.quantized import QuantizedWeight
from fettle.graph.workload import Workload

FAILURES = {
    "wrong": (Outcome.WRONG_RESULT, "run 1: 1 of 48 elements"),
    "nothing": (Outcome.WRONG_RESULT, "run 1: 48 of 48 elements"),
    "nan": (Outcome.WRONG_RESULT, "nan instead of"),
    "stateful": (Outcome.WRONG_RESULT, "run 2"),
    "outgrow": (Outcome.WRONG_RESULT, "after timing"),
    "outside": (Outcome.WRONG_RESULT, "outside its output"),
    "raise": (Outcome.RUN_ERROR, "RuntimeError: asked to raise"),
    "crash": (Outcome.CRASH, "SIGSEGV"),
    "scribble": (Outcome.CRASH, "SIGSEGV"),
    "repack": (Outcome.CRASH, "SIGSEGV"),
    "exit": (Outcome.CRASH, "exited with status 7"),
    "hang": (Outcome.TIMEOUT, "longer than 1 s"),
}


def counter(result: TrialResult, name: str) -> object:
    assert result.measurement.ok, result.measurement
    return dict(result.measurement.counters)[name]


def test_a_right_kernel_is_verified_and_measured(session: Session) -> None:
    result = evaluate(session)
    assert result.measurement.ok
    assert len(result.measurement.samples) == POLICY.samples
    assert result.verified
    x, weight = data.operands(QUANTISED, 1)
    assert isinstance(x, np.ndarray)
    assert isinstance(weight, QuantizedWeight)
    exact = x.astype(np.float64) @ weight.dequantise().T
    kernel = (x.astype(np.float64) @ weight.dequantise(dtype=np.float32).T.astype(np.float64)).astype(np.float32)
    tolerance = data.reference(QUANTISED, (x, weight)).tolerance
    assert result.max_error == np.abs(kernel - exact).max()
    assert result.error_ratio == (np.abs(kernel - exact) / tolerance).max()


def test_a_backend_that_returns_a_bare_time_is_told_so(session: Session) -> None:
    measurement = evaluate(session, run="seconds").measurement
    assert measurement.outcome is Outcome.RUN_ERROR
    assert "not a Measurement but float was returned" in measurement.message


@pytest.mark.parametrize(("how", "told"), [("no samples", "()"), ("negative", "(0.001, -0.001)")])
def test_samples_that_are_no_times_are_no_measurement(session: Session, how: str, told: str) -> None:
    measurement = evaluate(session, run=how).measurement
    assert measurement.outcome is Outcome.RUN_ERROR
    assert f"no times were returned: {told}" in measurement.message


def test_a_kernel_far_slower_than_the_fastest_is_sampled_once(session: Session) -> None:
    assert len(evaluate(session, run="slow").measurement.samples) == POLICY.samples
    assert len(evaluate(session).measurement.samples) == POLICY.samples
    result = evaluate(session, run="slow")
    assert result.verified
    assert len(result.measurement.samples) == 1
    assert result.measurement.median > 0.02


def test_a_kernel_that_was_held_up_once_is_not_taken_for_a_slow_one(session: Session) -> None:
    evaluate(session)
    assert len(evaluate(session, run="disturbed").measurement.samples) == POLICY.samples


@pytest.mark.parametrize("how", FAILURES)
def test_a_bad_kernel_is_a_typed_failure_and_spares_the_next(session: Session, how: str) -> None:
    outcome, words = FAILURES[how]
    result = evaluate(session, run=how)
    assert result.measurement.outcome is outcome
    assert words in result.measurement.message
    assert not result.verified
    assert result.measurement.median == math.inf
    assert evaluate(session).measurement.ok


def test_the_size_of_an_error_is_told(session: Session) -> None:
    result = evaluate(session, run="wrong")
    assert result.max_error == pytest.approx(1.0, abs=1e-5)
    assert result.error_ratio is not None
    assert result.error_ratio > 1
    assert evaluate(session, run="nothing").max_error == math.inf
    assert evaluate(session, run="raise").max_error is None


def test_a_foreign_artifact_is_a_run_error(session: Session) -> None:
    foreign = artifact()
    result = session.evaluate(
        candidate(), type(foreign)(b"", "fake", "other-9", "kernel", foreign.workload, foreign.schedule)
    )
    assert result.measurement.outcome is Outcome.RUN_ERROR
    assert "other-9" in result.measurement.message


def test_a_crash_is_not_blamed_on_the_kernel_after_the_culprit(session: Session) -> None:
    assert evaluate(session, run="damage").measurement.ok
    assert evaluate(session).measurement.ok


def test_constants_of_one_layout_are_packed_once(executor: Executor) -> None:
    with executor.open(QUANTISED, POLICY, 5) as session:
        results = [session.evaluate(candidate(), artifact(layout=layout)) for layout in ("a", "b", "a", "b", "a")]
        packed = [counter(result, "packings") for result in results]
        assert [packed[i] - packed[0] for i in range(5)] == [0, 1, 1, 1, 1]  # type: ignore[operator]
    with executor.open(QUANTISED, POLICY, 6) as session:
        assert session.evaluate(candidate(), artifact(layout="a")).measurement.ok  # other data: packed anew


def test_a_kernel_without_a_layout_is_packed_once_per_load(session: Session) -> None:
    first, second = (evaluate(session) for _ in range(2))
    assert counter(second, "packings") - counter(first, "packings") == 1  # type: ignore[operator]


def test_sessions_live_side_by_side(executor: Executor) -> None:
    relu = Workload.parse("elementwise shape=3x5 act=bf16 expr=relu(x0)")
    with executor.open(relu, POLICY, 1) as one, executor.open(QUANTISED, POLICY, 1) as other:
        for _ in range(2):
            assert one.evaluate(candidate(relu), artifact(relu)).verified
            assert evaluate(other).verified


def test_a_worker_that_dies_between_two_kernels_is_replaced(session: Session) -> None:
    pid = counter(evaluate(session), "pid")
    assert isinstance(pid, int)
    os.kill(pid, signal.SIGKILL)
    assert counter(evaluate(session), "pid") != pid


def test_a_kernel_whose_process_somebody_kills_gets_a_second_chance(session: Session, tmp_path: Path) -> None:
    evaluate(session, "crash")  # so that the next process is a fresh one
    assert evaluate(session, f"killed once:{tmp_path / 'file'}").verified
    assert (tmp_path / "file").exists()
    result = evaluate(session, "killed")
    assert result.measurement.outcome is Outcome.CRASH
    assert "SIGKILL" in result.measurement.message


def test_a_closed_session_says_so(executor: Executor) -> None:
    session = executor.open(QUANTISED, POLICY, 1)
    session.close()
    session.close()
    with pytest.raises(Conflict):
        evaluate(session)


def test_the_profile_is_taken_in_the_measuring_worker(executor: Executor, session: Session) -> None:
    profile = executor.profile()
    roof = profile.roof("peak:f32", 1)
    assert roof is not None
    assert roof.value == counter(evaluate(session), "pid")
    assert profile.device_key == DEVICE.key
