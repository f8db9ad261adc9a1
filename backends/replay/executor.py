"""Looks trials up instead of running them: no worker processes, no operands, no time to speak of."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

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
from fettle.backends.host.executor import BuildResult, Executor, Session, TrialResult
from fettle.backends.replay.recording import Recording, Row
from fettle.graph.workload import Workload

KIND = "recording"
ABI = "replay-1"

_NOT_BUILT = (Outcome.INVALID, Outcome.COMPILE_ERROR)


class ReplayExecutor(Executor):
    """The executor of one recording."""

    def __init__(self, device: Device, recording: Recording) -> None:
        self._device = device
        self._recording = recording

    @property
    def device(self) -> Device:
        return self._device

    def open(self, workload: Workload, policy: MeasurePolicy, seed: int) -> Session:
        return ReplaySession(self._recording)

    def profile(self) -> Profile:
        """No roofs: a recording does not say what the hardware can do."""
        return Profile(self._device.key, ())

    def close(self) -> None:
        pass


class ReplaySession(Session):
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
        measurement = self._recording.measurement(self._row(artifact.schedule))
        return TrialResult(measurement, measurement.ok, None, None, 0.0)

    def compare(self, artifacts: Sequence[Artifact], rounds: int) -> list[Measurement]:
        """The recorded objective in every round: samples of different runs were never taken side by side."""
        compared = []
        for one in artifacts:
            measurement = self._recording.measurement(self._row(one.schedule))
            if measurement.ok:
                measurement = attrs.evolve(measurement, samples=(measurement.time,) * rounds)
            compared.append(measurement)
        return compared

    def close(self) -> None:
        pass

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
