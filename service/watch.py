"""Job events to any number of watchers.

Events are read from the store, so a watcher may start at any number and a slow one holds up nobody; this module
only wakes watchers when there is something new. Jobs that another process runs on the same store are noticed by
looking every ``poll`` seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterator

from fettle.graph.errors import Unavailable
from fettle.store.api import Store
from fettle.store.values import Job, JobEvent, JobState

_SETTLE = 0.2
"""Seconds to wait for the last event of a job that is final: its state is stored just before it."""

_FINAL = {state.value for state in JobState if state.is_final}


class EventHub:
    """Wakes watchers. Create it inside the running event loop; :meth:`notify` may be called from any thread."""

    def __init__(self, store: Store, poll: float = 1.0) -> None:
        self._store = store
        self._poll = poll
        self._loop = asyncio.get_running_loop()
        self._wakes: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._closed = False

    @property
    def watchers(self) -> int:
        """How many watchers there are now."""
        return sum(len(wakes) for wakes in self._wakes.values())

    def notify(self, job_id: str) -> None:
        """Something about the job has changed in the store. From any thread; harmless after the loop has ended."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody watches any more
            self._loop.call_soon_threadsafe(self._wake, job_id)

    def close(self) -> None:
        """End all watches with Unavailable."""
        self._closed = True
        for job_id in tuple(self._wakes):
            self._wake(job_id)

    async def watch(self, job_id: str, after: int = 0) -> AsyncGenerator[JobEvent, None]:
        """Events numbered above ``after``, past ones at once, until the job is final.

        1. Read the job, then its next events, in one step off the loop.
        2. Pass on what there is; after the event of a final state, end.
        3. Nothing there: if the job is final, look once more and end; else sleep until woken, or ``poll`` seconds.

        Close the generator (``contextlib.aclosing``), so that a watcher who leaves is forgotten at once.

        Raises:
            NotFound: no such job.
            Unavailable: the server is stopping; watch again after the last number seen.
        """
        with self._registered(job_id) as wake:
            settled = False
            while True:
                wake.clear()
                job, events = await asyncio.to_thread(self._read, job_id, after)
                for event in events:
                    yield event
                    after = event.number
                    if event.kind == "state" and event.data.get("state") in _FINAL:
                        return
                if events:
                    continue
                if self._closed:
                    raise Unavailable("the server is stopping", hint="watch again after the last event seen")
                if job.state.is_final and settled:
                    return
                settled = job.state.is_final
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(wake.wait(), _SETTLE if settled else self._poll)

    def _read(self, job_id: str, after: int) -> tuple[Job, tuple[JobEvent, ...]]:
        return self._store.get_job(job_id), self._store.events(job_id, after)

    @contextlib.contextmanager
    def _registered(self, job_id: str) -> Iterator[asyncio.Event]:
        wake = asyncio.Event()
        self._wakes[job_id].add(wake)
        try:
            yield wake
        finally:
            self._wakes[job_id].discard(wake)
            if not self._wakes[job_id]:
                del self._wakes[job_id]

    def _wake(self, job_id: str) -> None:
        for wake in self._wakes.get(job_id, ()):
            wake.set()
