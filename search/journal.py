"""Trials on their way into the store."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from fettle.backends.api import Record
from fettle.graph.errors import FettleError
from fettle.store.api import Store
from fettle.store.jobs import JobEvent

PATIENCE = 0.1
"""Seconds that a trial may wait for others: a transaction takes as long as many a simulated trial."""


class Journal:
    """Writes records of one job, quick ones several at a time. Who dies loses :data:`PATIENCE` of work at most.

    Trials that wait while the next one takes long, or hangs, are written by a timer, so that those who watch the
    store see them; ``on_event`` is told of them when the job's own thread comes by.

    Args:
        clock: seconds, monotonic.
        on_event: called with each event once it is stored, in the thread that adds trials.
    """

    def __init__(
        self, store: Store, job_id: str, clock: Callable[[], float], on_event: Callable[[JobEvent], None]
    ) -> None:
        self._store = store
        self._job_id = job_id
        self._clock = clock
        self._on_event = on_event
        self._lock = threading.Lock()  # of what waits; held while it is written, so that the order is kept
        self._waiting: list[tuple[Record, dict[str, object] | None]] = []
        self._untold: list[JobEvent] = []
        self._timer: threading.Timer | None = None
        self._written = clock()

    def add(self, record: Record, event: dict[str, object]) -> None:
        """Write a trial and its event, now or with the next ones.

        Raises:
            StoreUnavailable, StoreFull: they wait on.
        """
        with self._lock:
            self._waiting.append((record, event))
        if self._clock() - self._written >= PATIENCE:
            self.flush()
        elif self._timer is None:
            self._timer = threading.Timer(PATIENCE, self._write_late)
            self._timer.daemon = True
            self._timer.start()

    def flush(self) -> None:
        """Write what waits. Raises as :meth:`add`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        with self._lock:
            self._write()
            untold, self._untold = self._untold, []
        self._written = self._clock()
        for event in untold:
            self._on_event(event)

    def _write(self) -> None:
        if self._waiting:
            events = self._store.add_records(self._job_id, self._waiting)
            self._waiting = []
            self._untold += [event for event in events if event is not None]

    def _write_late(self) -> None:
        # What cannot be written waits on: the job's thread meets the same trouble, and decides what it means.
        with self._lock, contextlib.suppress(FettleError):
            self._write()
