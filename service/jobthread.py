"""One job in a thread of its own, off the event loop, and what tells it to stop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Protocol

import attrs

from fettle.store.api import Store
from fettle.store.jobs import Job, JobEvent


class RunJob(Protocol):
    """What runs a job: :func:`fettle.search.jobs.run_job`, or a stand-in in tests.

    It moves the job to running and to its end state, appends events to the store and calls ``on_event`` after each.
    ``cancel`` set: finish early, state cancelled, best kernels kept. ``pause`` set: stop early, state paused; run
    again, it goes on from the stored trials. Raises Conflict, at once, if another process runs the job.
    """

    def __call__(
        self,
        store: Store,
        job_id: str,
        *,
        cancel: threading.Event,
        pause: threading.Event,
        on_event: Callable[[JobEvent], None],
    ) -> Job: ...


@attrs.frozen(eq=False)
class JobThread:
    """A job that runs, or is about to.

    Attributes:
        cancel: set it to have the job finish early.
        pause: set it to have the job stop early, to be run again.
    """

    job_id: str
    cancel: threading.Event = attrs.field(factory=threading.Event)
    pause: threading.Event = attrs.field(factory=threading.Event)

    def start(self, run: RunJob, store: Store, on_event: Callable[[JobEvent], None]) -> asyncio.Future[Job]:
        """Run the job: in a daemon thread, so that a stuck job cannot keep the server alive.

        Args:
            on_event: called from that thread.

        Returns:
            A future of the running event loop: the job as it ended, or what was raised.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Job] = loop.create_future()

        def settle(method: Callable[[Any], None], value: Any) -> None:
            if not future.done():
                method(value)

        def body() -> None:
            try:
                job = run(store, self.job_id, cancel=self.cancel, pause=self.pause, on_event=on_event)
            except BaseException as error:
                outcome: tuple[Callable[[Any], None], Any] = (future.set_exception, error)
            else:
                outcome = (future.set_result, job)
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, *outcome)

        threading.Thread(target=body, name=f"job {self.job_id}", daemon=True).start()
        return future
