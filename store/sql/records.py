"""Trials, inside a transaction of the caller."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from fettle.backends.api import RECORD_VERSION, Record
from fettle.graph.errors import InvalidArgument
from fettle.store.api import Trial, TrialPage
from fettle.store.sql.catalogue import Catalogue, upsert
from fettle.store.sql.jobs import find
from fettle.store.sql.models import RecordRow, WorkloadRow

_log = logging.getLogger(__name__)


def add(session: Session, catalogue: Catalogue, job_id: str, records: Sequence[Record], now: float) -> list[bool]:
    """Store trials and count them in their job, each once; which of them were new."""
    job = find(session, job_id, lock=True)
    new = [_insert(session, catalogue, job_id, record, now) for record in records]
    counted = [record for record, is_new in zip(records, new, strict=True) if is_new]
    if counted:
        job.trials += len(counted)
        job.failed += sum(not record.measurement.ok for record in counted)
        job.updated = now
    return new


def _insert(session: Session, catalogue: Catalogue, job_id: str, record: Record, now: float) -> bool:
    candidate, measurement = record.candidate, record.measurement
    row = {
        "job_id": job_id,
        "candidate_key": candidate.key,
        "workload_key": catalogue.put_workload(session, candidate.workload),
        "device_key": catalogue.put_device(session, candidate.device),
        "outcome": measurement.outcome.value,
        "basis": measurement.basis.value,
        "mode": record.policy.mode,
        "verified": record.verified,
        "median_s": measurement.time if measurement.ok and measurement.samples else None,
        "artifact_sha256": record.artifact_sha256,
        "toolchain": record.toolchain,
        "space_version": record.space_version,
        "record_version": record.record_version,
        "created": now,
        "data": catalogue.dumps(record),
    }
    return upsert(session, RecordRow, row, replace=False, unique="job_id,candidate_key")


def of_job(session: Session, catalogue: Catalogue, job_id: str, workload_key: str) -> tuple[Record, ...]:
    """Trials of one workload of a job, in order of arrival."""
    query = select(RecordRow).where(RecordRow.job_id == job_id, RecordRow.workload_key == workload_key)
    return _load(session, catalogue, query.order_by(RecordRow.id))


def across_jobs(
    session: Session,
    catalogue: Catalogue,
    workload_key: str | None,
    device_key: str | None,
    limit: int,
    operator: str | None = None,
    before_job: str | None = None,
) -> tuple[Record, ...]:
    """Trials of all jobs, newest first."""
    query = select(RecordRow).order_by(RecordRow.id.desc()).limit(limit)
    if workload_key is not None:
        query = query.where(RecordRow.workload_key == workload_key)
    if device_key is not None:
        query = query.where(RecordRow.device_key == device_key)
    if operator is not None:
        query = _of_operator(query, operator)
    if before_job is not None:
        query = query.where(RecordRow.job_id < before_job)
    return _load(session, catalogue, query)


def in_order(
    session: Session,
    catalogue: Catalogue,
    after: int,
    limit: int,
    job_id: str | None,
    device_key: str | None,
    operator: str | None,
) -> TrialPage:
    """Trials numbered above ``after``."""
    query = select(RecordRow).where(RecordRow.id > after).order_by(RecordRow.id).limit(limit)
    if job_id is not None:
        query = query.where(RecordRow.job_id == job_id)
    if device_key is not None:
        query = query.where(RecordRow.device_key == device_key)
    if operator is not None:
        query = _of_operator(query, operator)
    rows = session.scalars(query).all()
    known = [row for row in rows if row.record_version == RECORD_VERSION]
    trials = tuple(Trial(row.id, row.job_id, record) for row, record in _read(session, catalogue, known))
    return TrialPage(trials, rows[-1].id if len(rows) == limit else None)


def _of_operator(query: Select[RecordRow], operator: str) -> Select[RecordRow]:
    return query.join(WorkloadRow, WorkloadRow.key == RecordRow.workload_key).where(WorkloadRow.operator == operator)


def _load(session: Session, catalogue: Catalogue, query: Select[RecordRow]) -> tuple[Record, ...]:
    rows = session.scalars(query.where(RecordRow.record_version == RECORD_VERSION)).all()
    return tuple(record for _, record in _read(session, catalogue, rows))


def _read(session: Session, catalogue: Catalogue, rows: Sequence[RecordRow]) -> Iterator[tuple[RecordRow, Record]]:
    """Rows with their records; those that cannot be read are left out."""
    catalogue.load(session, {row.workload_key for row in rows}, {row.device_key for row in rows})
    for row in rows:
        try:
            yield row, catalogue.loads(Record, row.data)
        except InvalidArgument as error:
            _log.warning("left out record %d: %s", row.id, error)
