"""The executor interface: what the search needs done, wherever it is done."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from types import TracebackType

import attrs

from fettle.backends.api import Artifact, Backend, Candidate, Device, Measurement, MeasurePolicy, Outcome, Profile
from fettle.graph.errors import Unsupported
from fettle.graph.operators import Reference
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload


@attrs.frozen
class BuildResult:
    """An artifact, or the typed failure (INVALID, COMPILE_ERROR, TIMEOUT, CRASH) in ``failure``."""

    candidate: Candidate
    artifact: Artifact | None
    failure: Measurement | None
    seconds: float

    @property
    def problem(self) -> Measurement:
        """Why there is no artifact."""
        return self.failure or Measurement.failure(Outcome.COMPILE_ERROR, "the build gave no artifact")


@attrs.frozen
class TrialResult:
    """Verdict and measurement of one built candidate.

    Attributes:
        measurement: samples, or WRONG_RESULT, RUN_ERROR, TIMEOUT, CRASH.
        verified: results were within tolerance.
        max_error: largest ``|kernel - reference|``, None if it produced no result.
        error_ratio: largest ``|kernel - reference| / tolerance``.
        seconds: wall time of verification and measurement.
    """

    measurement: Measurement
    verified: bool
    max_error: float | None
    error_ratio: float | None
    seconds: float


class Session(abc.ABC):
    """Work on one workload: its operands and reference are computed once and shared with the workers."""

    @abc.abstractmethod
    def build(self, candidates: Sequence[Candidate]) -> list[BuildResult]:
        """Compile in parallel; results in the order given. One failure never affects another candidate."""

    @abc.abstractmethod
    def evaluate(self, candidate: Candidate, artifact: Artifact) -> TrialResult:
        """Verify against the reference (poisoned output), then measure, in one worker, exclusively."""

    @abc.abstractmethod
    def compare(self, artifacts: Sequence[Artifact], rounds: int) -> list[Measurement]:
        """Finals: measure several verified artifacts interleaved (ABCD, DCBA, …), ``rounds`` samples each.

        All in one process, so that sample *i* of each artifact was taken under the same conditions.
        """

    def verification_data(self) -> tuple[tuple[Operand, ...], Reference]:
        """The operands kernels are verified with and what they must give: for kernels that are not candidates.

        Raises:
            Unsupported: nothing is run in this session.
        """
        raise Unsupported("this session runs no kernels")

    @abc.abstractmethod
    def close(self) -> None:
        """Free shared memory. Idempotent."""

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Executor(abc.ABC):
    """Owns workers for one device."""

    @abc.abstractmethod
    def open(self, workload: Workload, policy: MeasurePolicy, seed: int) -> Session:
        """Prepare operands and reference.

        Raises:
            ResourceExhausted: operands and reference do not fit in memory.
        """

    @abc.abstractmethod
    def profile(self) -> Profile:
        """Measure the device's roofs in a worker."""

    @abc.abstractmethod
    def close(self) -> None:
        """Kill the workers. Idempotent."""

    @property
    @abc.abstractmethod
    def device(self) -> Device:
        """The device it drives."""

    def __enter__(self) -> Executor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def make_executor(backend: Backend, device: Device) -> Executor:
    """The backend's own executor for a device, or worker processes on this machine."""
    own = backend.executor(device)
    if own is not None:
        return own
    from fettle.backends.host.local import LocalExecutor

    return LocalExecutor(backend, device)
