"""Trials of compiled networks: Vela compiles them and says what they cost, NumPy checks what went in."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from fettle.backends.api import (
    Artifact,
    Backend,
    Basis,
    Candidate,
    Measurement,
    MeasurePolicy,
    Outcome,
)
from fettle.backends.host.building import build_here
from fettle.backends.host.executor import BuildResult, Session, TrialResult
from fettle.backends.host.stated import ModelExecutor, StatedSession
from fettle.backends.npu.ethos import check, networks
from fettle.graph.workload import Workload

_AT_ONCE = 2
"""Compilers that run side by side."""


class EstimateExecutor(ModelExecutor):
    """Asks Vela."""

    def open(self, workload: Workload, policy: MeasurePolicy, seed: int) -> Session:
        return EstimateSession(self._backend, workload)


class EstimateSession(StatedSession):
    """Trials of one workload.

    A network that computes something else is a wrong result. One that computes the right thing is still not a verified
    kernel: what Vela made of it never ran, so ``verified`` is False for every trial.
    """

    def __init__(self, backend: Backend, workload: Workload) -> None:
        self._backend = backend
        self._workload = workload
        self._wrong: dict[tuple[object, ...], str] = {}

    def build(self, candidates: Sequence[Candidate]) -> list[BuildResult]:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(lambda candidate: build_here(self._backend, candidate, Basis.ESTIMATED), candidates))

    def evaluate(self, candidate: Candidate, artifact: Artifact) -> TrialResult:
        begun = time.perf_counter()
        wrong = self._what_is_wrong(candidate)
        measurement = self.stated(artifact)
        if wrong:
            measurement = Measurement.failure(Outcome.WRONG_RESULT, wrong, Basis.ESTIMATED)
        return TrialResult(measurement, False, None, None, time.perf_counter() - begun)

    def _what_is_wrong(self, candidate: Candidate) -> str:
        """With the candidate's network; networks that are alike are run once."""
        schedule = candidate.schedule.as_dict()
        choice = tuple(schedule[name] for name in networks.textbook(self._workload))
        if choice not in self._wrong:
            network = networks.write(self._workload, schedule)
            self._wrong[choice] = check.what_is_wrong(self._workload, network)
        return self._wrong[choice]

    def stated(self, artifact: Artifact) -> Measurement:
        """Vela's estimate, as it was noted when the network was compiled."""
        facts = dict(artifact.facts)
        seconds = float(facts.pop("seconds"))
        counters = tuple(facts.items())
        message = f"estimated by {artifact.toolchain}"
        return Measurement(Outcome.OK, (seconds,), Basis.ESTIMATED, message, counters, objective=seconds)
