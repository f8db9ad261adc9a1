"""Jobs in memory with their events and results, and what may become of them. Not safe between threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import attrs

from fettle.graph.errors import Conflict
from fettle.store.encoding import clean, from_json
from fettle.store.ids import next_id
from fettle.store.jobs import Job, JobEvent, JobState, WorkloadResult
from fettle.store.missing import no_job
from fettle.store.specs import JobSpec


class JobLog:
    """See :class:`fettle.store.api.Store` for what methods answer and raise.

    Args:
        clock: Unix seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._jobs: dict[str, Job] = {}  # oldest first
        self._events: dict[str, list[tuple[float, str, str]]] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def create(self, spec: JobSpec) -> tuple[Job, bool]:
        """A queued job and True, or the one of its key in flight and False."""
        running = self._in_flight(spec.key)
        if running is not None:
            return running, False
        now = self._clock()
        job = Job(next_id(now, max(self._jobs, default="")), spec, JobState.QUEUED, created=now, updated=now)
        self._jobs[job.id] = job
        self._events[job.id] = []
        return job, True

    def get(self, job_id: str) -> Job:
        """Raises NotFound."""
        try:
            return self._jobs[job_id]
        except KeyError:
            raise no_job(job_id) from None

    def page(self, limit: int, before: str, states: Sequence[JobState]) -> tuple[Job, ...]:
        """Up to ``limit`` jobs older than the id ``before``, newest first."""
        found = (
            job
            for job in reversed(self._jobs.values())
            if (not states or job.state in states) and (not before or job.id < before)
        )
        return tuple(islice(found, limit))

    def move(self, job_id: str, expected: Sequence[JobState], to: JobState, error: str) -> bool:
        """Compare-and-set of the state."""
        job = self.get(job_id)
        if job.state not in expected:
            return False
        if job.state.is_final and not to.is_final and self._in_flight(job.spec.key) is not None:
            raise Conflict(f"job {job_id} cannot be {to.value}: the same work is in flight in another job")
        self._change(job, state=to, error=clean(error), cancel_requested=job.cancel_requested and not to.is_final)
        return True

    def cancel(self, job_id: str) -> Job:
        """Cancel what does not run, mark what does. Raises Conflict for a final job."""
        job = self.get(job_id)
        if job.state.is_final:
            raise Conflict(f"job {job_id} is {job.state.value} and cannot be cancelled")
        if job.state is JobState.RUNNING:
            return self._change(job, cancel_requested=True)
        return self._change(job, state=JobState.CANCELLED, cancel_requested=False)

    def put_result(self, job_id: str, result: WorkloadResult) -> None:
        """Store or replace a result."""
        job = self.get(job_id)
        results = {known.workload.key: known for known in job.results}
        results[result.workload.key] = result
        self._change(job, results=tuple(results.values()))

    def count_trial(self, job_id: str, failed: bool) -> None:
        """One trial more."""
        job = self.get(job_id)
        self._change(job, trials=job.trials + 1, failed=job.failed + failed)

    def append_event(self, job_id: str, kind: str, text: str) -> JobEvent:
        """Append with the next number; ``text`` is JSON."""
        self.get(job_id)
        events = self._events[job_id]
        events.append((self._clock(), kind, text))
        return self._event(job_id, len(events))

    def events(self, job_id: str, after: int, limit: int) -> tuple[JobEvent, ...]:
        """Events numbered above ``after``."""
        self.get(job_id)
        first = max(after, 0) + 1
        last = min(len(self._events[job_id]), first + limit - 1)
        return tuple(self._event(job_id, number) for number in range(first, last + 1))

    def forget(self, before: float) -> set[str]:
        """Drop jobs that ended before a moment; their ids."""
        gone = {job.id for job in self._jobs.values() if job.state.is_final and job.updated < before}
        for job_id in gone:
            del self._jobs[job_id], self._events[job_id]
        return gone

    def _in_flight(self, key: str) -> Job | None:
        return next((job for job in self._jobs.values() if not job.state.is_final and job.spec.key == key), None)

    def _change(self, job: Job, **fields: Any) -> Job:
        changed: Job = attrs.evolve(job, updated=self._clock(), **fields)
        self._jobs[job.id] = changed
        return changed

    def _event(self, job_id: str, number: int) -> JobEvent:
        at, kind, text = self._events[job_id][number - 1]
        return JobEvent(job_id, number, at, kind, from_json(text))
