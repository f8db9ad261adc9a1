"""The store interface. Every implementation passes ``tests/store/conformance.py``."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from types import TracebackType

import attrs

from fettle.backends.api import Artifact, Device, Profile, Record
from fettle.store.claims import Held
from fettle.store.jobs import Job, JobEvent, JobState, WorkloadResult
from fettle.store.kernels import Kernel
from fettle.store.specs import JobSpec


@attrs.frozen
class Page:
    """One page of jobs, newest first; ``next_token`` is empty on the last."""

    jobs: tuple[Job, ...]
    next_token: str = ""


@attrs.frozen
class Trial:
    """A stored trial: its number in order of arrival, and the job it was made for."""

    number: int
    job_id: str
    record: Record


@attrs.frozen
class TrialPage:
    """Some trials in order of arrival; ``next`` is what to go on behind, None on the last page."""

    trials: tuple[Trial, ...]
    next: int | None = None


@attrs.frozen
class Stats:
    """What ``fettle cache stats`` prints. Bytes are those of artifact files."""

    kernels: int
    records: int
    failed_records: int
    jobs: int
    devices: int
    workloads: int
    artifacts: int
    artifact_bytes: int


@attrs.frozen
class Pruned:
    """What :meth:`Store.prune` removed."""

    artifacts: int
    artifact_bytes: int
    jobs: int
    records: int


class Store(abc.ABC):
    """All methods are safe to call from several threads and processes; values returned are frozen.

    Any method may raise StoreUnavailable when the database cannot be reached, and StoreFull when the
    disk is full (nothing is left half written).
    """

    # -- devices
    @abc.abstractmethod
    def put_device(self, device: Device) -> None:
        """Remember a device (idempotent)."""

    @abc.abstractmethod
    def put_profile(self, profile: Profile) -> None:
        """Store or replace the profile of a device."""

    @abc.abstractmethod
    def get_profile(self, device_key: str) -> Profile | None:
        """The profile of a device, or None if it was never measured."""

    # -- jobs
    @abc.abstractmethod
    def create_job(self, spec: JobSpec) -> tuple[Job, bool]:
        """A queued job and True; or the job with the same key that is not final yet, and False."""

    @abc.abstractmethod
    def get_job(self, job_id: str) -> Job:
        """Raises NotFound."""

    @abc.abstractmethod
    def list_jobs(self, page_size: int = 50, page_token: str = "", states: Sequence[JobState] = ()) -> Page:
        """Jobs, newest first. Tokens stay valid while jobs are added. Raises InvalidArgument for a bad token."""

    def jobs(self, states: Sequence[JobState] = ()) -> Iterator[Job]:
        """All jobs, newest first; pages are read as they are needed."""
        token = ""
        while True:
            page = self.list_jobs(page_token=token, states=states)
            yield from page.jobs
            token = page.next_token
            if not token:
                return

    @abc.abstractmethod
    def move_job(self, job_id: str, expected: Sequence[JobState], to: JobState, error: str = "") -> bool:
        """Compare-and-set of the state; False if the state is not among ``expected``. Raises NotFound."""

    @abc.abstractmethod
    def claim_job(self, job_id: str) -> AbstractContextManager[Held]:
        """The sole right to run a job, until the context is left or the process dies, however it does.

        A database server that restarts forgets it; whoever runs a job for long asks now and then, by calling what
        the context gives, which raises StoreUnavailable then.

        Raises on entering: NotFound; Conflict if another thread or process has it.
        """

    @abc.abstractmethod
    def request_cancel(self, job_id: str) -> Job:
        """Mark for cancellation (a queued or paused job is cancelled at once).

        Raises NotFound, or Conflict if the job is final.
        """

    @abc.abstractmethod
    def cancel_requested(self, job_id: str) -> bool:
        """Whether a running job is marked so; cheaper than reading the job. Raises NotFound."""

    @abc.abstractmethod
    def put_result(self, job_id: str, result: WorkloadResult) -> None:
        """Store or replace one workload's result of a job. Raises NotFound."""

    @abc.abstractmethod
    def append_event(self, job_id: str, kind: str, data: dict[str, object]) -> JobEvent:
        """Append with the next number. Raises NotFound."""

    @abc.abstractmethod
    def events(self, job_id: str, after: int = 0, limit: int = 1000) -> tuple[JobEvent, ...]:
        """Events numbered above ``after``, in order. Raises NotFound."""

    # -- records
    @abc.abstractmethod
    def add_records(
        self, job_id: str, trials: Sequence[tuple[Record, dict[str, object] | None]]
    ) -> tuple[JobEvent | None, ...]:
        """Store trials and count them in their job; with the data of a ``trial`` event beside one, append that too.

        All of it or nothing, so that whoever dies in between loses neither. Idempotent per (job, candidate): the
        second time nothing is stored or appended, and None stands for the event. Raises NotFound.
        """

    def add_record(self, job_id: str, record: Record, event: dict[str, object] | None = None) -> JobEvent | None:
        """:meth:`add_records` of one."""
        return self.add_records(job_id, [(record, event)])[0]

    @abc.abstractmethod
    def job_records(self, job_id: str, workload_key: str) -> tuple[Record, ...]:
        """Trials of one workload of a job, in order of arrival (this is what a resumed job starts from)."""

    @abc.abstractmethod
    def records(
        self,
        workload_key: str | None = None,
        device_key: str | None = None,
        limit: int = 10_000,
        *,
        operator: str | None = None,
        before_job: str | None = None,
    ) -> tuple[Record, ...]:
        """Trials across jobs, newest first. Rows of an unknown ``record_version`` are left out.

        Args:
            operator: only of workloads of this operator.
            before_job: only of jobs created before this one.
        """

    @abc.abstractmethod
    def trials(
        self,
        after: int = 0,
        limit: int = 1000,
        *,
        job_id: str | None = None,
        device_key: str | None = None,
        operator: str | None = None,
    ) -> TrialPage:
        """Trials across jobs in order of arrival, those numbered above ``after``: for reading all there are, page by
        page. Rows of an unknown ``record_version`` are left out, so a page may be short, or empty, before the last.
        """

    # -- kernels and artifacts
    @abc.abstractmethod
    def put_artifact(self, artifact: Artifact) -> str:
        """Store bytes content-addressed; returns the sha256. Idempotent."""

    @abc.abstractmethod
    def get_artifact(self, sha256: str) -> Artifact:
        """Raises NotFound, or DataLoss if the stored bytes do not have that hash."""

    @abc.abstractmethod
    def put_model(self, key: str, data: bytes) -> None:
        """Keep or replace a fitted cost model under a 256-bit key in hexadecimal. Losing one costs a fit, no more.

        Raises InvalidArgument for another key.
        """

    @abc.abstractmethod
    def get_model(self, key: str) -> bytes | None:
        """The cost model of a key, or None."""

    @abc.abstractmethod
    def put_kernel(self, kernel: Kernel) -> None:
        """Store or replace the kernel under its key. Raises NotFound if its artifact is not stored."""

    @abc.abstractmethod
    def get_kernels(self, keys: Sequence[str]) -> dict[str, Kernel]:
        """The kernels of those cache keys that have one. Rows of an unknown version are left out."""

    def get_kernel(self, key: str) -> Kernel | None:
        """The kernel of a cache key, or None."""
        return self.get_kernels((key,)).get(key)

    @abc.abstractmethod
    def kernels(
        self, device_key: str | None = None, operator: str | None = None, limit: int = 10_000
    ) -> tuple[Kernel, ...]:
        """Kernels, newest first."""

    @abc.abstractmethod
    def stats(self) -> Stats:
        """Counts for people."""

    @abc.abstractmethod
    def prune(self, unused_before: float, jobs_before: float | None = None) -> Pruned:
        """Remove what nobody needs any more. Kernels stay, and so do jobs that are not final.

        Args:
            unused_before: Unix seconds; artifacts stored earlier go unless a kernel names them. (Storing an artifact
                again counts; one that is about to be named by a kernel was stored a moment ago.)
            jobs_before: Unix seconds; final jobs that changed last before then go, with their trials (from which later
                searches would have learned), events and results. None: no job goes.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Release connections. Idempotent."""

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
