"""The host's view of the measuring worker: which sessions it has open, and whom to blame when it crashes."""

from __future__ import annotations

import attrs

from fettle.backends.api import Artifact, MeasurePolicy, Outcome
from fettle.backends.host.operands import SharedOperands
from fettle.backends.host.process import WorkerFailure, WorkerProcess
from fettle.backends.host.protocol import Close, Done, Evaluate, Evaluated, Load, Open, Sample, Unload
from fettle.graph.errors import Unavailable
from fettle.graph.workload import Workload

_OPEN_TIMEOUT = 60.0


@attrs.frozen(eq=False)
class SessionData:
    """A session as the worker knows it."""

    number: int
    workload: Workload
    operands: SharedOperands


class MeasuringWorker:
    """Wraps the process; a new process is given the sessions again when they are next used."""

    def __init__(self, process: WorkerProcess) -> None:
        self.process = process
        self._pid: int | None = None
        self._open: set[int] = set()
        self._kernels = 0

    def evaluate(self, data: SessionData, artifact: Artifact, policy: MeasurePolicy) -> Evaluated:
        """Verify and measure. A crash is this kernel's only if a fresh process crashes too: an earlier kernel
        may have damaged the process. A process that somebody killed gets a second chance as well, but only one: if a
        system runs out of memory each time, it is the kernel.

        Raises:
            WorkerFailure: TIMEOUT or CRASH.
        """
        second_chance = True
        while True:
            self._ensure_open(data)
            fresh = self._kernels == 0
            self._kernels += 1
            request = Evaluate(data.number, artifact, policy)
            try:
                return self.process.call(request, Evaluated, policy.timeout, "verifying and measuring")
            except WorkerFailure as failure:
                again = second_chance if failure.killed else not fresh
                if failure.measurement.outcome is not Outcome.CRASH or not again:
                    raise
                second_chance = second_chance and not failure.killed

    def load(self, data: SessionData, slot: int, artifact: Artifact, timeout: float) -> Evaluated:
        """Load and verify for :meth:`sample`. Raises WorkerFailure."""
        self._ensure_open(data)
        self._kernels += 1
        return self.process.call(Load(data.number, slot, artifact), Evaluated, timeout, "verifying")

    def sample(self, slot: int, policy: MeasurePolicy) -> Evaluated:
        """Measure a loaded kernel. Raises WorkerFailure."""
        return self.process.call(Sample(slot, policy), Evaluated, policy.timeout, "measuring")

    def unload(self) -> None:
        """Forget loaded kernels. Raises WorkerFailure."""
        self.process.call(Unload(), Done, _OPEN_TIMEOUT, "unloading")

    def forget(self, number: int) -> None:
        """Close a session in the worker, if it is open there."""
        if self.process.pid == self._pid and number in self._open:
            self._open.discard(number)
            try:
                self.process.call(Close(number), Done, _OPEN_TIMEOUT, "closing a session")
            except WorkerFailure:  # the memory went with the process
                return

    def _ensure_open(self, data: SessionData) -> None:
        """Make sure that a live process has the session's operands."""
        pid = self.process.prepare()
        if pid != self._pid:
            self._pid, self._open, self._kernels = pid, set(), 0
        if data.number not in self._open:
            request = Open(data.number, data.workload, data.operands.manifest)
            descriptors = (data.operands.descriptor,)
            try:
                self.process.call(request, Done, _OPEN_TIMEOUT, "opening a session", descriptors)
            except WorkerFailure as failure:
                raise Unavailable(f"the operands of {data.workload} cannot be mapped: {failure}") from None
            self._open.add(data.number)
