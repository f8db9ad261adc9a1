"""A session on this machine: what a caller may ask about one workload, and the errors it may meet."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fettle.backends.api import Artifact, Candidate, Measurement, MeasurePolicy
from fettle.backends.host.compare import compare
from fettle.backends.host.executor import BuildResult, Session, TrialResult
from fettle.backends.host.measuring import SessionData
from fettle.backends.host.operands import MappedOperands
from fettle.backends.host.process import WorkerFailure
from fettle.backends.host.protocol import Evaluated
from fettle.graph.errors import Cancelled, Conflict, InvalidArgument
from fettle.graph.operators import Reference
from fettle.graph.quantized import Operand

if TYPE_CHECKING:
    from fettle.backends.host.local import LocalExecutor


class LocalSession(Session):
    """One workload on a :class:`LocalExecutor`."""

    def __init__(self, executor: LocalExecutor, data: SessionData, policy: MeasurePolicy) -> None:
        self._executor = executor
        self._data = data
        self._policy = policy
        self._closed = False

    def build(self, candidates: Sequence[Candidate]) -> list[BuildResult]:
        """See :class:`Session`.

        Raises:
            Cancelled: the executor was closed meanwhile.
            Unavailable: no worker can be started.
        """
        self._check_open()
        return self._executor.build(candidates, self._policy.timeout)

    def evaluate(self, candidate: Candidate, artifact: Artifact) -> TrialResult:
        """See :class:`Session`. Raises as :meth:`build`."""
        self._check_open()
        with self._executor.measuring() as worker:
            started = time.perf_counter()
            try:
                answer = worker.evaluate(self._data, artifact, self._policy)
            except WorkerFailure as failure:
                answer = Evaluated(failure.measurement, verified=False)
            return TrialResult(
                answer.measurement,
                answer.verified,
                answer.max_error,
                answer.error_ratio,
                time.perf_counter() - started,
            )

    def compare(self, artifacts: Sequence[Artifact], rounds: int) -> list[Measurement]:
        """See :class:`Session` and :mod:`fettle.backends.host.compare`. Raises as :meth:`build`."""
        self._check_open()
        if rounds < 1:
            raise InvalidArgument(f"a comparison needs at least one round, not {rounds}")
        with self._executor.measuring() as worker:
            return compare(worker, self._data, artifacts, rounds, self._policy)

    def verification_data(self) -> tuple[tuple[Operand, ...], Reference]:
        """See :class:`Session`; views of the shared memory, which they keep alive."""
        self._check_open()
        mapped = MappedOperands(self._data.operands.descriptor, self._data.operands.manifest)
        return mapped.operands, mapped.reference

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            with self._executor.measuring() as worker:
                worker.forget(self._data.number)
        except Cancelled:  # the executor went first, and the workers with it
            pass
        finally:
            self._data.operands.close()

    def _check_open(self) -> None:
        if self._closed:
            raise Conflict("the session is closed")
