"""The jobs that ``fettle jobs`` speaks of: those of a server, or of the embedded store, asked alike."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from fettle.graph.errors import Conflict

if TYPE_CHECKING:
    from fettle.backends.api import Record
    from fettle.service.client import Client
    from fettle.store.api import Store
    from fettle.store.jobs import Job, JobEvent, JobState

_LOOK = 0.5
"""Seconds between looks for news of a job in the store."""


@contextmanager
def open_jobs(
    store: str | None, server: str | None, token: str | None, tls_ca: Path | None
) -> Iterator[Client | StoredJobs]:
    """The jobs of the server if one is named, else of the store.

    Raises:
        Unavailable, InvalidArgument, NotFound: as :func:`fettle.service.client.connect` and ``open_store``.
    """
    if server is not None:
        from fettle.service.client import connect

        with connect(server, token=token, tls_ca=tls_ca) as client:
            yield client
    else:
        from fettle.store.open import open_store

        with open_store(store) as opened:
            yield StoredJobs(opened)


class StoredJobs:
    """The jobs of a store, with the methods that :class:`fettle.service.client.Client` has for a server's."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def job(self, job_id: str) -> Job:
        """Raises NotFound."""
        return self._store.get_job(job_id)

    def trials(self, job: Job) -> Iterator[Record]:
        """All trials of a job, by workload."""
        for workload, _ in job.spec.workloads:
            yield from self._store.job_records(job.id, workload.key)

    def jobs(self, states: Sequence[JobState] = ()) -> Iterator[Job]:
        """All jobs, newest first."""
        return self._store.jobs(states)

    def watch(self, job_id: str, after: int = 0) -> Iterator[JobEvent]:
        """Events numbered above ``after`` until the job is final. Raises NotFound."""
        while True:
            final = self._store.get_job(job_id).state.is_final  # asked first: then the events are all there
            while events := self._store.events(job_id, after):
                yield from events
                after = events[-1].number
            if final:
                return
            time.sleep(_LOOK)

    def cancel(self, job_id: str) -> Job:
        """Ask a job to stop. Raises NotFound, Conflict."""
        from fettle.search.jobs import run_job

        job = self._store.request_cancel(job_id)
        if not job.state.is_final:
            with suppress(Conflict):  # somebody runs it, and will notice; else it was cut off, and ends here
                job = run_job(self._store, job_id)
        return job
