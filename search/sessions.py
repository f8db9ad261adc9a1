"""Keeps one executor session per workload open, as long as memory allows."""

from __future__ import annotations

from types import TracebackType

from fettle.backends.api import MeasurePolicy
from fettle.backends.host.executor import Executor, Session
from fettle.graph.errors import ResourceExhausted
from fettle.graph.workload import Workload


class Sessions:
    """Opens sessions when asked, so that operands and reference are computed once per workload and job."""

    def __init__(self, executor: Executor, policy: MeasurePolicy, seed: int) -> None:
        self._executor = executor
        self._policy = policy
        self._seed = seed
        self._open: dict[str, Session] = {}

    def get(self, workload: Workload) -> Session:
        """The workload's session; to make room, the others may be closed (they open again when asked for).

        Raises:
            ResourceExhausted: it does not fit in memory even alone.
        """
        if workload.key not in self._open:
            try:
                self._open[workload.key] = self._executor.open(workload, self._policy, self._seed)
            except ResourceExhausted:
                if not self._open:
                    raise
                self.close()
                self._open[workload.key] = self._executor.open(workload, self._policy, self._seed)
        return self._open[workload.key]

    def close(self) -> None:
        """Close all. Idempotent."""
        while self._open:
            self._open.popitem()[1].close()

    def __enter__(self) -> Sessions:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
