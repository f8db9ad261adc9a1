"""A GPU whose times are written in advance: an executor that builds stand-ins and looks times up."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fettle.backends.api import (
    Artifact,
    Backend,
    Candidate,
    Device,
    Measurement,
    MeasurePolicy,
    Outcome,
    Profile,
    Roof,
    Schedule,
)
from fettle.backends.host.executor import BuildResult, Executor, Session, TrialResult
from fettle.graph.workload import Workload
from tests.backends.triton.programs import artifact, kernel, program

Seconds = Callable[[Schedule], float]
"""Time of a schedule; infinity for a wrong result."""


class ScriptedExecutor(Executor):
    """Counts the trials it makes in ``trials``, and sessions that nobody closed in ``opened``."""

    def __init__(self, device: Device, seconds: Seconds) -> None:
        self._device = device
        self.seconds = seconds
        self.trials = 0
        self.opened = 0

    @classmethod
    def factory(cls, seconds: Seconds, made: list[ScriptedExecutor]) -> Callable[[Backend, Device], Executor]:
        """For :class:`fettle.backends.triton.campaign.Campaign`; appends to ``made``."""

        def make(backend: Backend, device: Device) -> Executor:
            made.append(cls(device, seconds))
            return made[-1]

        return make

    @property
    def device(self) -> Device:
        return self._device

    def open(self, workload: Workload, policy: MeasurePolicy, seed: int) -> Session:
        self.opened += 1
        return ScriptedSession(self)

    def profile(self) -> Profile:
        roofs = (Roof("copy:dram", 1e12), Roof("peak:f16", 1e15), Roof("clock:f16", 1.5e9))
        return Profile(self._device.key, roofs, (("peak:f8", "no such unit"),))

    def close(self) -> None:
        pass


class ScriptedSession(Session):
    def __init__(self, executor: ScriptedExecutor) -> None:
        self._executor = executor

    def build(self, candidates: Sequence[Candidate]) -> list[BuildResult]:
        made = program(kernel())
        return [BuildResult(candidate, artifact(candidate, made), None, 0.0) for candidate in candidates]

    def evaluate(self, candidate: Candidate, artifact: Artifact) -> TrialResult:
        self._executor.trials += 1
        (measurement,) = self.compare([artifact], 3)
        error = 0.5 if measurement.ok else 2.0
        return TrialResult(measurement, measurement.ok, error, error, 0.0)

    def compare(self, artifacts: Sequence[Artifact], rounds: int) -> list[Measurement]:
        times = [self._executor.seconds(one.schedule) for one in artifacts]
        return [
            Measurement(Outcome.OK, (t,) * rounds)
            if t < float("inf")
            else Measurement.failure(Outcome.WRONG_RESULT, "off by one")
            for t in times
        ]

    def close(self) -> None:
        self._executor.opened -= 1
