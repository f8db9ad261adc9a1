"""The executor of compile targets: candidates are really compiled, in worker processes, and their time is predicted."""

from __future__ import annotations

from collections.abc import Sequence

from fettle.backends.api import Artifact, Basis, Candidate, Measurement, MeasurePolicy, Outcome, Profile
from fettle.backends.host.executor import BuildResult, Session, TrialResult
from fettle.backends.host.local import LocalExecutor
from fettle.backends.host.stated import StatedSession
from fettle.backends.triton.predict import Prediction, predict
from fettle.backends.triton.program import Program
from fettle.backends.triton.targets import Target, find_target
from fettle.graph.errors import Conflict
from fettle.graph.workload import Workload


class CompileExecutor(LocalExecutor):
    """Builds as any device of this machine does; nothing is run."""

    def open(self, workload: Workload, policy: MeasurePolicy, seed: int) -> Session:
        """Prepares nothing: without a kernel to run there is nothing to compare."""
        return PredictSession(self, find_target(self.device.preset), policy)

    def profile(self) -> Profile:
        """The data sheet's roofs."""
        return self._backend.profile(self.device)


class PredictSession(StatedSession):
    """Compiles candidates of one workload and predicts their times.

    A prediction is no proof: ``verified`` is False for every trial. That the templates are right is what the tests
    show in the interpreter; that a compiled kernel is right, only a device can.
    """

    def __init__(self, executor: CompileExecutor, target: Target, policy: MeasurePolicy) -> None:
        self._executor = executor
        self._target = target
        self._policy = policy
        self._closed = False

    def build(self, candidates: Sequence[Candidate]) -> list[BuildResult]:
        """See :class:`Session`. Raises as :meth:`LocalExecutor.build`."""
        if self._closed:
            raise Conflict("the session is closed")
        return self._executor.build(candidates, self._policy.timeout)

    def evaluate(self, candidate: Candidate, artifact: Artifact) -> TrialResult:
        return TrialResult(self.stated(artifact), verified=False, max_error=None, error_ratio=None, seconds=0.0)

    def close(self) -> None:
        self._closed = True

    def stated(self, artifact: Artifact) -> Measurement:
        """The prediction; a kernel that cannot be loaded is INVALID."""
        found = predict(Program.of(artifact), self._target)
        if isinstance(found, Prediction):
            counters = {f"{name}_s": seconds for name, seconds in found.terms} | {"occupancy": found.occupancy}
            return Measurement(Outcome.OK, (found.seconds,), Basis.PREDICTED, found.limiter, tuple(counters.items()))
        return Measurement.failure(Outcome.INVALID, f"cannot be loaded: {found}", Basis.PREDICTED)
