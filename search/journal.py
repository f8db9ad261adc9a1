"""Trials on their way into the store."""

from __future__ import annotations

from collections.abc import Callable

from fettle.backends.api import Record
from fettle.store.api import Store
from fettle.store.values import JobEvent

PATIENCE = 0.1
"""Seconds that a trial may wait for others: a transaction takes as long as many a simulated trial."""


class Journal:
    """Writes records of one job, quick ones several at a time. Who dies loses :data:`PATIENCE` of work at most.

    Args:
        clock: seconds, monotonic.
        on_event: called with each event once it is stored.
    """

    def __init__(
        self, store: Store, job_id: str, clock: Callable[[], float], on_event: Callable[[JobEvent], None]
    ) -> None:
        self._store = store
        self._job_id = job_id
        self._clock = clock
        self._on_event = on_event
        self._waiting: list[tuple[Record, dict[str, object] | None]] = []
        self._written = clock()

    def add(self, record: Record, event: dict[str, object]) -> None:
        """Write a trial and its event, now or with the next ones."""
        self._waiting.append((record, event))
        if self._clock() - self._written >= PATIENCE:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        waiting, self._waiting = self._waiting, []
        events = self._store.add_records(self._job_id, waiting) if waiting else ()
        self._written = self._clock()
        for event in events:
            if event is not None:
                self._on_event(event)
