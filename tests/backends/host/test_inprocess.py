"""The executor without worker processes keeps the same gate as the one with them."""

from __future__ import annotations

import numpy as np
import pytest

from fettle.backends.api import Basis, Candidate, Measurement, MeasurePolicy, Outcome
from fettle.backends.host.inprocess import InProcessExecutor
from fettle.backends.host.stated import ModelExecutor
from fettle.backends.npu.ethos.session import EstimateExecutor
from fettle.backends.pim.backend import PimBackend
from fettle.backends.pim.dram import DramKernel
from fettle.backends.registry import resolve_device
from fettle.graph.errors import BuildFailure, InvalidArgument, Unsupported
from fettle.graph.workload import Workload

WORKLOAD = Workload.parse("matmul m=1 n=40 k=100 act=bf16 weight=bf16")


def candidate() -> tuple[InProcessExecutor, Candidate]:
    backend, device = resolve_device("pim:gddr6-aim,channels=1")
    return InProcessExecutor(backend, device), Candidate(WORKLOAD, device, backend.default(WORKLOAD, device))


def test_a_right_result_is_verified_and_timed() -> None:
    executor, one = candidate()
    with executor, executor.open(WORKLOAD, MeasurePolicy(samples=3), 0) as session:
        (built,) = session.build([one])
        assert built.artifact is not None
        trial = session.evaluate(one, built.artifact)
        assert trial.verified
        assert len(trial.measurement.samples) == 3
        assert trial.error_ratio is not None
        assert trial.error_ratio <= 1.0
        (again,) = session.compare([built.artifact], 5)
        assert again.samples == (trial.measurement.median,) * 5


@pytest.mark.parametrize(("make", "basis"), [(InProcessExecutor, Basis.MEASURED), (EstimateExecutor, Basis.ESTIMATED)])
@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (BuildFailure("no"), Outcome.COMPILE_ERROR),
        (InvalidArgument("no"), Outcome.INVALID),
        (Unsupported("no"), Outcome.INVALID),
    ],
)
def test_a_build_that_is_refused_is_a_failure_as_in_a_worker(
    monkeypatch: pytest.MonkeyPatch, make: type[ModelExecutor], basis: Basis, error: Exception, outcome: Outcome
) -> None:
    def build(self: PimBackend, candidate: Candidate) -> None:
        raise error

    monkeypatch.setattr(PimBackend, "build", build)
    _, one = candidate()
    with make(PimBackend(), one.device).open(WORKLOAD, MeasurePolicy(), 0) as session:
        (built,) = session.build([one])
    assert built.artifact is None
    assert built.failure == Measurement.failure(outcome, "no", basis)


def test_a_wrong_result_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(self: DramKernel, inputs: object, packed: object, out: np.ndarray) -> None:
        out[...] = 7.0

    def measure(*arguments: object) -> None:
        raise AssertionError("a wrong kernel was timed")

    monkeypatch.setattr(DramKernel, "run", wrong)
    monkeypatch.setattr(PimBackend, "measure", measure)
    executor, one = candidate()
    with executor.open(WORKLOAD, MeasurePolicy(), 0) as session:
        (built,) = session.build([one])
        assert built.artifact is not None
        trial = session.evaluate(one, built.artifact)
    assert not trial.verified
    assert trial.measurement.outcome is Outcome.WRONG_RESULT


def test_an_output_that_is_not_written_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DramKernel, "run", lambda self, inputs, packed, out: None)
    executor, one = candidate()
    with executor.open(WORKLOAD, MeasurePolicy(), 0) as session:
        (built,) = session.build([one])
        assert built.artifact is not None
        assert not session.evaluate(one, built.artifact).verified
