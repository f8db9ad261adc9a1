"""Trials of one workload, each schedule once."""

from __future__ import annotations

from contextlib import ExitStack

from fettle.backends.api import Backend, Bound, Candidate, Device, Measurement, MeasurePolicy, Schedule
from fettle.backends.host.executor import Executor, Session, make_executor
from fettle.graph.workload import Workload
from fettle.search.explore import attempt


class RememberedTrials:
    """Builds, verifies and measures schedules on a device, and remembers how each turned out.

    So a schedule always has the same time, whatever the noise, and an agent that comes back to it pays no measurement.
    Workers start with the first trial.

    Args:
        seed: of the operands.
    """

    def __init__(self, backend: Backend, workload: Workload, device: Device, policy: MeasurePolicy, seed: int) -> None:
        self._backend = backend
        self._workload = workload
        self._device = device
        self._policy = policy
        self._seed = seed
        self._known: dict[Schedule, Measurement] = {}
        self._opened: tuple[Executor, Session] | None = None
        self._resources = ExitStack()

    def measure(self, schedule: Schedule) -> Measurement:
        """How a point of the space turned out."""
        if schedule not in self._known:
            _, session = self._open()
            self._known[schedule] = attempt(session, Candidate(self._workload, self._device, schedule))
        return self._known[schedule]

    def bound(self) -> Bound:
        """The time no schedule can beat; measures the device's roofs."""
        executor, _ = self._open()
        return self._backend.bound(self._workload, self._device, executor.profile())

    def close(self) -> None:
        """Stop the workers; they start again with the next new trial. Idempotent."""
        self._opened = None
        self._resources.close()

    def _open(self) -> tuple[Executor, Session]:
        if self._opened is None:
            executor = self._resources.enter_context(make_executor(self._backend, self._device))
            session = self._resources.enter_context(executor.open(self._workload, self._policy, self._seed))
            self._opened = executor, session
        return self._opened
