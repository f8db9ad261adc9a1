"""Runs a job here, or follows it while another process runs it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from fettle.graph.errors import Conflict
from fettle.search.jobs import run_job
from fettle.store.api import Store
from fettle.store.jobs import Job, JobEvent

_LOOK = 0.5
"""Seconds between looks for news of a job that runs elsewhere."""


def run_or_follow(
    store: Store,
    job_id: str,
    *,
    cancel: threading.Event | None = None,
    on_event: Callable[[JobEvent], None] | None = None,
    on_follow: Callable[[], None] = lambda: None,
    run: Callable[..., Job] = run_job,
) -> Job:
    """Bring a job to its end in this thread.

    1. If nobody runs it, run it.
    2. Else pass on its events, and look now and then whether it is final, or its runner died: then go on with it here.

    Args:
        cancel: set it to stop. A job that runs here is cancelled; one that runs elsewhere is only left, as it is.
        on_event: called with every event, in this thread.
        on_follow: called once, when the job turns out to be run elsewhere.
        run: runs the job; takes the arguments of :func:`run_job`.

    Raises:
        NotFound: no such job.
        Unavailable: the store cannot be reached.
    """
    cancel = cancel or threading.Event()
    seen = 0
    follows = False

    def show(event: JobEvent) -> None:
        nonlocal seen
        seen = event.number
        if on_event is not None:
            on_event(event)

    def catch_up() -> None:
        while events := store.events(job_id, seen):
            for event in events:
                show(event)

    while True:
        try:
            job = run(store, job_id, cancel=cancel, on_event=show)
        except Conflict:
            if not follows:
                follows = True
                on_follow()
            catch_up()
            if cancel.wait(_LOOK):
                return store.get_job(job_id)
        else:
            if follows:
                catch_up()
            return job
