"""Tells a running job that it should stop, and how."""

from __future__ import annotations

import enum
import threading

from fettle.store.api import Store


class Stop(enum.Enum):
    """How a job is to stop."""

    PAUSE = "pause"
    """At once, to be resumed: the process is going away."""

    CANCEL = "cancel"
    """For good, keeping the best so far."""


class Watch:
    """Looks at the caller's events and at the store's cancel request; between two trials, so it may ask the store."""

    def __init__(
        self, store: Store, job_id: str, cancel: threading.Event | None, pause: threading.Event | None
    ) -> None:
        self._store = store
        self._job_id = job_id
        self._cancel = cancel or threading.Event()
        self._pause = pause or threading.Event()

    def check(self) -> Stop | None:
        """How to stop, or None. A pause goes first: a process that goes away has no time for finals, and a cancel
        request in the store is met again on resumption."""
        if self._pause.is_set():
            return Stop.PAUSE
        if not self._cancel.is_set() and self._store.cancel_requested(self._job_id):
            self._cancel.set()
        return Stop.CANCEL if self._cancel.is_set() else None
