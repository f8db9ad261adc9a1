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
from fettle.store.jobs import JobEvent, JobState

_SETTLE, _LOOKS = 0.2, 10
"""How long and how often to look for the last event of a job that is final: its state is stored just before it, and
a job that was cancelled by another process while it waited has none."""

_FINAL = {state.value for state in JobState if state.is_final}


def _is_last(event: JobEvent) -> bool:
    return event.kind == "state" and event.data.get("state") in _FINAL


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

        1. Read the next events, and without any the job, in one step off the loop.
        2. Pass on what there is; after the event of a final state, end.
        3. Nothing there: sleep until woken, or ``poll`` seconds; of a final job, look a few times more, then end.

        Close the generator (``contextlib.aclosing``), so that a watcher who leaves is forgotten at once.

        Raises:
            NotFound: no such job.
            Unavailable: the server is stopping; watch again after the last number seen.
        """
        with self._registered(job_id) as wake:
            looks = 0
            while True:
                wake.clear()
                events, final = await asyncio.to_thread(self._read, job_id, after)
                for event in events:
                    yield event
                    after = event.number
                    if _is_last(event):
                        return
                if events:
                    continue
                if self._closed:
                    raise Unavailable("the server is stopping", hint="watch again after the last event seen")
                if final:
                    if looks == _LOOKS or await asyncio.to_thread(self._ended_at, job_id, after):
                        return
                    looks += 1
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(wake.wait(), _SETTLE if final else self._poll)

    def _read(self, job_id: str, after: int) -> tuple[tuple[JobEvent, ...], bool]:
        """The next events; without any, whether the job is final."""
        events = self._store.events(job_id, after)
        return events, not events and self._store.get_job(job_id).state.is_final

    def _ended_at(self, job_id: str, number: int) -> bool:
        """Whether the event of that number is the last of a final job, or the number lies beyond it."""
        if number == 0:
            return False
        known = self._store.events(job_id, number - 1, 1)
        return not known or _is_last(known[0])

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
