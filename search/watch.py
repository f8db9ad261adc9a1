"""Tells a running job that it should stop, and how."""

from __future__ import annotations

import enum
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fettle.backends.host.executor import Executor
from fettle.graph.errors import StoreUnavailable
from fettle.store.api import Store
from fettle.store.claims import Held


class Stop(enum.Enum):
    """How a job is to stop."""

    PAUSE = "pause"
    """At once, to be resumed: the process is going away."""

    CANCEL = "cancel"
    """For good, keeping the best so far."""


ASK_EVERY = 0.1
"""Seconds between two questions to the store, which for simulated trials would be asked a hundred times a second."""


class Watch:
    """Looks at the caller's events and, now and then, at the store's cancel request and the job's claim.

    Args:
        held: raises once the claim is lost.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        store: Store,
        job_id: str,
        held: Held,
        cancel: threading.Event | None,
        pause: threading.Event | None,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._job_id = job_id
        self._held = held
        self._cancel = cancel or threading.Event()
        self._pause = pause or threading.Event()
        self._clock = clock
        self._asked = -math.inf

    def check(self) -> Stop | None:
        """How to stop, or None. A pause goes first: a process that goes away has no time for finals, and a cancel
        request in the store is met again on resumption.

        Raises:
            StoreUnavailable: the store cannot be asked, or somebody else may run the job by now.
        """
        if self._pause.is_set():
            return Stop.PAUSE
        if not self._cancel.is_set() and self._clock() - self._asked >= ASK_EVERY:
            self._asked = self._clock()
            self._held()
            if self._store.cancel_requested(self._job_id):
                self._cancel.set()
        return Stop.CANCEL if self._cancel.is_set() else None

    @contextmanager
    def closing(self, executor: Executor) -> Iterator[None]:
        """While inside, a stop closes the executor, for calls that take many seconds: they raise Cancelled."""
        over = threading.Event()

        def look() -> None:
            while not over.wait(ASK_EVERY):
                try:
                    stop = self.check()
                except StoreUnavailable:  # the job's own thread will meet it, too
                    stop = Stop.PAUSE
                if stop is not None:
                    executor.close()
                    return

        thread = threading.Thread(target=look, name="fettle-watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
