"""Looks trials up instead of running them: no worker processes, no operands, no time to speak of."""

from __future__ import annotations

from collections.abc import Sequence

from fettle.backends.api import (
    Artifact,
    Basis,
    Candidate,
    Device,
    Measurement,
    MeasurePolicy,
    Outcome,
    Profile,
    Schedule,
)
from fettle.backends.host.executor import BuildResult, Session, TrialResult
from fettle.backends.host.stated import StatedExecutor, StatedSession
from fettle.backends.replay.recording import Recording, Row
from fettle.graph.workload import Workload

KIND = "recording"
ABI = "replay-1"

_NOT_BUILT = (Outcome.INVALID, Outcome.COMPILE_ERROR)


class ReplayExecutor(StatedExecutor):
    """The executor of one recording."""

    def __init__(self, device: Device, recording: Recording) -> None:
        super().__init__(device)
        self._recording = recording

    def open(self, workload: Workload, policy: MeasurePolicy, seed: int) -> Session:
        return ReplaySession(self._recording)

    def profile(self) -> Profile:
        """No roofs: a recording does not say what the hardware can do."""
        return Profile(self._device.key, ())


class ReplaySession(StatedSession):
    """Trials of one recording."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording

    def build(self, candidates: Sequence[Candidate]) -> list[BuildResult]:
        return [self._build(candidate) for candidate in candidates]

    def _build(self, candidate: Candidate) -> BuildResult:
        row = self._row(candidate.schedule)
        if row.outcome in _NOT_BUILT:
            return BuildResult(candidate, None, self._recording.measurement(row), 0.0)
        return BuildResult(candidate, artifact(candidate), None, 0.0)

    def evaluate(self, candidate: Candidate, artifact: Artifact) -> TrialResult:
        """The recorded samples and verdict."""
        measurement = self.stated(artifact)
        return TrialResult(measurement, measurement.ok, None, None, 0.0)

    def stated(self, artifact: Artifact) -> Measurement:
        """What was recorded; finals compare its objective, since samples of different runs were never taken side by
        side."""
        return self._recording.measurement(self._row(artifact.schedule))

    def _row(self, schedule: Schedule) -> Row:
        found = self._recording.find(schedule)
        return found or Row((), Outcome.INVALID, message=f"not recorded: {schedule}")


def artifact(candidate: Candidate) -> Artifact:
    """What stands for a built configuration; nothing can be run."""
    return Artifact(
        payload=b"",
        kind=KIND,
        abi=ABI,
        entry="",
        workload=str(candidate.workload),
        schedule=candidate.schedule,
        toolchain=Basis.REPLAYED.value,
    )
