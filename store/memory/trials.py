"""Trials in memory, in order of arrival, and the questions a store answers about them. Not safe between threads."""

from __future__ import annotations

from collections.abc import Iterator, Set
from itertools import islice

from fettle.backends.api import RECORD_VERSION, Record
from fettle.store.api import Trial, TrialPage


class TrialLog:
    """At most one trial of each candidate in a job; see :class:`fettle.store.api.Store` for what methods answer."""

    def __init__(self) -> None:
        self._trials: dict[tuple[str, str], Trial] = {}  # by job and candidate, oldest first
        self._numbered = 0

    def __len__(self) -> int:
        return len(self._trials)

    def __iter__(self) -> Iterator[Record]:
        return (trial.record for trial in self._trials.values())

    def add(self, job_id: str, record: Record) -> bool:
        """False if the job has a trial of that candidate; then nothing changes."""
        identity = job_id, record.candidate.key
        if identity in self._trials:
            return False
        self._numbered += 1
        self._trials[identity] = Trial(self._numbered, job_id, record)
        return True

    def forget(self, jobs: Set[str]) -> int:
        """Drop the trials of these jobs; how many there were."""
        before = len(self._trials)
        self._trials = {identity: trial for identity, trial in self._trials.items() if identity[0] not in jobs}
        return before - len(self._trials)

    def of_job(self, job_id: str, workload_key: str) -> tuple[Record, ...]:
        """Oldest first."""
        return tuple(
            trial.record
            for trial in self._trials.values()
            if trial.job_id == job_id and _matches(trial.record, workload_key, None, None)
        )

    def newest(
        self,
        limit: int,
        workload_key: str | None,
        device_key: str | None,
        operator: str | None,
        before_job: str | None,
    ) -> tuple[Record, ...]:
        """Newest first."""
        found = (
            trial.record
            for trial in reversed(self._trials.values())
            if (before_job is None or trial.job_id < before_job)
            and _matches(trial.record, workload_key, device_key, operator)
        )
        return tuple(islice(found, limit))

    def page(
        self, after: int, limit: int, job_id: str | None, device_key: str | None, operator: str | None
    ) -> TrialPage:
        """Those numbered above ``after``, oldest first."""
        found = [
            trial
            for trial in self._trials.values()
            if trial.number > after
            and job_id in (None, trial.job_id)
            and _matches(trial.record, None, device_key, operator)
        ]
        return TrialPage(tuple(found[:limit]), found[limit - 1].number if len(found) >= limit else None)


def _matches(record: Record, workload_key: str | None, device_key: str | None, operator: str | None) -> bool:
    """Whether this version understands a record, and it is what was asked for; None asks for any."""
    candidate = record.candidate
    return (
        record.record_version == RECORD_VERSION
        and workload_key in (None, candidate.workload.key)
        and device_key in (None, candidate.device.key)
        and operator in (None, candidate.workload.operator)
    )
