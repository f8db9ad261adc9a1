"""The Store on a database and a folder of artifact files."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from fettle.backends.api import Artifact, Device, Profile, Record
from fettle.graph.errors import Conflict, DataLoss, StoreUnavailable
from fettle.store.api import Page, Pruned, Stats, Store, TrialPage
from fettle.store.artifacts import ArtifactFiles, ModelFiles
from fettle.store.claims import Claims, Held
from fettle.store.encoding import MAX_INTEGER, check_limit
from fettle.store.jobs import Job, JobEvent, JobState, WorkloadResult
from fettle.store.kernels import Kernel
from fettle.store.paging import page_limit, read_token, write_token
from fettle.store.specs import JobSpec
from fettle.store.sql import jobs, kernels, profiles, pruning, records, stats
from fettle.store.sql.catalogue import Catalogue
from fettle.store.sql.engine import writing
from fettle.store.sql.failures import translated
from fettle.store.sql.models import JobRow


class SqlStore(Store):
    """Every method is one transaction.

    Args:
        engine: from ``engine.connect_engine``, its schema up to date.
        artifacts: where artifact files lie.
        claims: who runs which job.
        clock: Unix seconds.
    """

    def __init__(
        self, engine: Engine, artifacts: ArtifactFiles, claims: Claims, clock: Callable[[], float] = time.time
    ) -> None:
        self._reader = engine
        self._writer = writing(engine)
        self._artifacts = artifacts
        self._models = ModelFiles(artifacts.folder / "models")
        self._claims = claims
        self._clock = clock
        self._catalogue = Catalogue()
        self._where = engine.url.render_as_string(hide_password=True)
        self._closed = False
        # SQLite has one writer at a time; threads queue here instead of polling its lock.
        one_writer = engine.dialect.name == "sqlite"
        self._turn: AbstractContextManager[object] = threading.Lock() if one_writer else nullcontext()

    # -- transactions

    @contextmanager
    def _read(self) -> Iterator[Session]:
        with self._transaction(self._reader) as session:
            yield session

    @contextmanager
    def _write(self) -> Iterator[Session]:
        with self._turn, self._transaction(self._writer) as session:
            yield session

    @contextmanager
    def _transaction(self, engine: Engine) -> Iterator[Session]:
        if self._closed:
            raise StoreUnavailable(f"the store {self._where} is closed")
        with translated(self._where), Session(engine, expire_on_commit=False) as session:
            with session.begin():
                yield session
            self._catalogue.committed(session)

    # -- devices

    def put_device(self, device: Device) -> None:
        with self._write() as session:
            self._catalogue.put_device(session, device)

    def put_profile(self, profile: Profile) -> None:
        with self._write() as session:
            profiles.put(session, profile, self._clock())

    def get_profile(self, device_key: str) -> Profile | None:
        with self._read() as session:
            return profiles.get(session, device_key)

    # -- jobs

    def create_job(self, spec: JobSpec) -> tuple[Job, bool]:
        for _ in range(100):
            try:
                with self._write() as session:
                    row = jobs.in_flight(session, spec.key)
                    created = row is None
                    row = row or jobs.create(session, self._catalogue, spec, self._clock())
                    return self._load_job(session, row), created
            except IntegrityError:
                continue  # a server's other client was faster: join its job, or take the next id
        raise StoreUnavailable(f"{self._where} is too busy to create a job", hint="try again")

    def get_job(self, job_id: str) -> Job:
        with self._read() as session:
            return self._load_job(session, jobs.find(session, job_id))

    def _load_job(self, session: Session, row: JobRow) -> Job:
        found = jobs.load(session, self._catalogue, [row])
        if not found:
            raise DataLoss(f"job {row.id} cannot be read by this fettle", hint="was it made by a newer version?")
        return found[0]

    def list_jobs(self, page_size: int = 50, page_token: str = "", states: Sequence[JobState] = ()) -> Page:
        limit = page_limit(page_size)
        before = read_token(page_token, states)
        with self._read() as session:
            rows = jobs.page(session, limit + 1, before, states)
            found = jobs.load(session, self._catalogue, rows[:limit])
        return Page(tuple(found), write_token(rows[limit - 1].id, states) if len(rows) > limit else "")

    def move_job(self, job_id: str, expected: Sequence[JobState], to: JobState, error: str = "") -> bool:
        """As declared. Also raises Conflict if a final job would come back beside another of its key in flight."""
        try:
            with self._write() as session:
                return jobs.move(session, job_id, expected, to, error, self._clock())
        except IntegrityError as clash:
            raise Conflict(
                f"job {job_id} cannot be {to.value}: the same work is in flight in another job",
                hint="watch that job instead",
            ) from clash

    @contextmanager
    def claim_job(self, job_id: str) -> Iterator[Held]:
        with self._read() as session:
            jobs.find(session, job_id)
        with self._claims.claim(job_id) as held:
            yield held

    def request_cancel(self, job_id: str) -> Job:
        with self._write() as session:
            return self._load_job(session, jobs.cancel(session, job_id, self._clock()))

    def cancel_requested(self, job_id: str) -> bool:
        with self._read() as session:
            return jobs.cancel_requested(session, job_id)

    def put_result(self, job_id: str, result: WorkloadResult) -> None:
        with self._write() as session:
            jobs.put_result(session, self._catalogue, job_id, result, self._clock())

    def append_event(self, job_id: str, kind: str, data: dict[str, object]) -> JobEvent:
        with self._write() as session:
            return jobs.append_events(session, job_id, kind, [data], self._clock())[0]

    def events(self, job_id: str, after: int = 0, limit: int = 1000) -> tuple[JobEvent, ...]:
        with self._read() as session:
            return jobs.events(session, job_id, min(after, MAX_INTEGER), check_limit(limit))

    # -- records

    def add_records(
        self, job_id: str, trials: Sequence[tuple[Record, dict[str, object] | None]]
    ) -> tuple[JobEvent | None, ...]:
        with self._write() as session:
            now = self._clock()
            new = records.add(session, self._catalogue, job_id, [record for record, _ in trials], now)
            told = {at: event for at, (_, event) in enumerate(trials) if new[at] and event is not None}
            events = dict(zip(told, jobs.append_events(session, job_id, "trial", [*told.values()], now), strict=True))
            return tuple(events.get(at) for at in range(len(trials)))

    def job_records(self, job_id: str, workload_key: str) -> tuple[Record, ...]:
        with self._read() as session:
            return records.of_job(session, self._catalogue, job_id, workload_key)

    def records(
        self,
        workload_key: str | None = None,
        device_key: str | None = None,
        limit: int = 10_000,
        *,
        operator: str | None = None,
        before_job: str | None = None,
    ) -> tuple[Record, ...]:
        with self._read() as session:
            return records.across_jobs(
                session, self._catalogue, workload_key, device_key, check_limit(limit), operator, before_job
            )

    def trials(
        self,
        after: int = 0,
        limit: int = 1000,
        *,
        job_id: str | None = None,
        device_key: str | None = None,
        operator: str | None = None,
    ) -> TrialPage:
        with self._read() as session:
            return records.in_order(
                session,
                self._catalogue,
                min(after, MAX_INTEGER),
                check_limit(limit),
                job_id,
                device_key,
                operator,
            )

    # -- kernels and artifacts

    def put_artifact(self, artifact: Artifact) -> str:
        # The file first: a row promises that its file is there.
        sha256, size = self._artifacts.write(artifact)
        with self._write() as session:
            kernels.put_artifact(session, artifact, sha256, size, self._clock())
        self._artifacts.write(artifact)  # unless it is there: somebody may have pruned it before there was a row
        return sha256

    def get_artifact(self, sha256: str) -> Artifact:
        with self._read() as session:
            kernels.find_artifact(session, sha256)
        return self._artifacts.read(sha256)

    def put_model(self, key: str, data: bytes) -> None:
        self._models.write(key, data)

    def get_model(self, key: str) -> bytes | None:
        return self._models.read(key)

    def put_kernel(self, kernel: Kernel) -> None:
        with self._write() as session:
            kernels.put(session, self._catalogue, kernel)

    def get_kernels(self, keys: Sequence[str]) -> dict[str, Kernel]:
        with self._read() as session:
            return kernels.get(session, self._catalogue, keys)

    def kernels(
        self, device_key: str | None = None, operator: str | None = None, limit: int = 10_000
    ) -> tuple[Kernel, ...]:
        with self._read() as session:
            return kernels.select_kernels(session, self._catalogue, device_key, operator, check_limit(limit))

    # -- everything

    def stats(self) -> Stats:
        with self._read() as session:
            return stats.count(session)

    def prune(self, unused_before: float, jobs_before: float | None = None) -> Pruned:
        with self._write() as session:
            ended, trials = (0, 0) if jobs_before is None else pruning.jobs(session, jobs_before)
            unused = pruning.artifacts(session, unused_before)
            for sha256, _ in unused:  # before the rows are gone: who stores one of them anew looks for its file then
                self._artifacts.remove(sha256)
        return Pruned(len(unused), sum(size for _, size in unused), ended, trials)

    def close(self) -> None:
        self._closed = True
        self._reader.dispose()
