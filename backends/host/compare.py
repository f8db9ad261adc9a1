"""Finals: several kernels measured in turns, so that whatever disturbs the machine disturbs them alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import attrs

from fettle.backends.api import Artifact, Measurement, MeasurePolicy, Outcome
from fettle.backends.host.measuring import MeasuringWorker, SessionData
from fettle.backends.host.process import WorkerFailure


def compare(
    worker: MeasuringWorker, data: SessionData, artifacts: Sequence[Artifact], rounds: int, policy: MeasurePolicy
) -> list[Measurement]:
    """One sample of each per round, in the order ABCD, DCBA, ABCD, …; ``rounds`` samples each.

    A kernel that fails drops out with a typed failure. One that takes the process down drops out too (a crash
    counts from the second time: another kernel may have done the damage), and the others start anew, because
    all samples must come from one process.
    """
    return _Interleaving(worker, data, artifacts, rounds, attrs.evolve(policy, samples=1)).run()


class _Interleaving:
    def __init__(
        self,
        worker: MeasuringWorker,
        data: SessionData,
        artifacts: Sequence[Artifact],
        rounds: int,
        policy: MeasurePolicy,
    ) -> None:
        self._worker = worker
        self._data = data
        self._artifacts = artifacts
        self._rounds = rounds
        self._policy = policy
        self._failures: dict[int, Measurement] = {}
        self._crashes: Counter[int] = Counter()
        self._samples: list[list[Measurement]] = []

    def run(self) -> list[Measurement]:
        while not self._attempt():
            pass
        return [
            self._failures[slot] if slot in self._failures else Measurement.joined(samples)
            for slot, samples in enumerate(self._samples)
        ]

    def _attempt(self) -> bool:
        """All rounds from the start; False if the process was lost on the way."""
        self._samples = [[] for _ in self._artifacts]
        slots = [slot for slot in range(len(self._artifacts)) if slot not in self._failures]
        slot = -1
        try:
            for slot in slots:
                self._keep(
                    slot, self._worker.load(self._data, slot, self._artifacts[slot], self._policy.timeout).measurement
                )
            for number in range(self._rounds):
                for slot in slots if number % 2 == 0 else reversed(slots):
                    if slot not in self._failures:
                        self._samples[slot].append(
                            self._keep(slot, self._worker.sample(slot, self._policy).measurement)
                        )
        except WorkerFailure as failure:
            crashed = failure.measurement.outcome is Outcome.CRASH
            self._crashes[slot] += crashed
            if not crashed or self._crashes[slot] > 1:
                self._failures[slot] = failure.measurement
            return False
        if slots:
            self._worker.unload()
        return True

    def _keep(self, slot: int, measurement: Measurement) -> Measurement:
        if not measurement.ok:
            self._failures[slot] = measurement
        return measurement
