"""Jobs, their events and results, inside a transaction of the caller."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from fettle.graph.errors import Conflict, InvalidArgument
from fettle.store.encoding import clean, from_json, to_json
from fettle.store.ids import next_id
from fettle.store.jobs import Job, JobEvent, JobState, WorkloadResult
from fettle.store.missing import no_job
from fettle.store.specs import JobSpec
from fettle.store.sql.catalogue import Catalogue, upsert
from fettle.store.sql.models import JobEventRow, JobResultRow, JobRow

_log = logging.getLogger(__name__)

IN_FLIGHT = tuple(state.value for state in JobState if not state.is_final)


def in_flight(session: Session, key: str) -> JobRow | None:
    """The job of a spec's key that is not final."""
    return session.scalar(select(JobRow).where(JobRow.key == key, JobRow.state.in_(IN_FLIGHT)))


def create(session: Session, catalogue: Catalogue, spec: JobSpec, now: float) -> JobRow:
    """A queued job; IntegrityError at the end of the transaction if one of this key is in flight."""
    # In one order everywhere: two that insert the same rows in opposite orders would each wait for the other.
    for workload in sorted({workload for workload, _ in spec.workloads}, key=lambda workload: workload.key):
        catalogue.put_workload(session, workload)
    newest = session.scalar(select(func.max(JobRow.id))) or ""
    row = JobRow(
        id=next_id(now, newest),
        key=spec.key,
        state=JobState.QUEUED.value,
        device_key=catalogue.put_device(session, spec.device),
        created=now,
        updated=now,
        trials=0,
        failed=0,
        event_count=0,
        cancel_requested=False,
        error="",
        spec=catalogue.dumps(spec),
    )
    session.add(row)
    session.flush()
    return row


def find(session: Session, job_id: str, *, lock: bool = False) -> JobRow:
    """The row of a job, locked against other writers on demand. Raises NotFound."""
    query = select(JobRow).where(JobRow.id == job_id)
    row = session.scalar(query.with_for_update() if lock else query)
    if row is None:
        raise no_job(job_id)
    return row


def load(session: Session, catalogue: Catalogue, rows: Sequence[JobRow]) -> list[Job]:
    """Whole jobs; those this version cannot read are left out."""
    results: dict[str, list[JobResultRow]] = {row.id: [] for row in rows}
    found = select(JobResultRow).where(JobResultRow.job_id.in_(results)).order_by(JobResultRow.id)
    for result in session.scalars(found):
        results[result.job_id].append(result)
    workloads = {result.workload_key for group in results.values() for result in group}
    for row in rows:
        workloads.update(_workload_keys(row.spec))
    catalogue.load(session, workloads, {row.device_key for row in rows})
    jobs = []
    for row in rows:
        try:
            jobs.append(_job(catalogue, row, results[row.id]))
        except InvalidArgument as error:
            _log.warning("left out job %s: %s", row.id, error)
    return jobs


def _workload_keys(spec: str) -> list[str]:
    """Workloads that the text of a spec names; none if it cannot be read."""
    try:
        return [str(key) for key, _ in from_json(spec)["workloads"]]
    except (InvalidArgument, KeyError, TypeError, ValueError):
        return []


def _job(catalogue: Catalogue, row: JobRow, results: Sequence[JobResultRow]) -> Job:
    try:
        state = JobState(row.state)
    except ValueError as error:
        raise InvalidArgument(str(error)) from error
    return Job(
        id=row.id,
        spec=catalogue.loads(JobSpec, row.spec),
        state=state,
        created=row.created,
        updated=row.updated,
        trials=row.trials,
        failed=row.failed,
        results=tuple(catalogue.loads(WorkloadResult, result.data) for result in results),
        error=row.error,
        cancel_requested=row.cancel_requested,
    )


def page(session: Session, limit: int, before: str, states: Sequence[JobState]) -> Sequence[JobRow]:
    """Up to ``limit`` jobs older than the id ``before``, newest first."""
    query = select(JobRow).order_by(JobRow.id.desc()).limit(limit)
    if before:
        query = query.where(JobRow.id < before)
    if states:
        query = query.where(JobRow.state.in_([state.value for state in states]))
    return session.scalars(query).all()


def move(session: Session, job_id: str, expected: Sequence[JobState], to: JobState, error: str, now: float) -> bool:
    """Compare-and-set of the state."""
    change: dict[str, Any] = {"state": to.value, "error": clean(error), "updated": now}
    if to.is_final:
        change["cancel_requested"] = False
    states = [state.value for state in expected]
    moved = session.execute(
        update(JobRow).where(JobRow.id == job_id, JobRow.state.in_(states)).values(change).returning(JobRow.id)
    ).first()
    if moved is None:
        find(session, job_id)
    return moved is not None


def cancel(session: Session, job_id: str, now: float) -> JobRow:
    """Cancel what does not run, mark what does. Raises Conflict for a final job."""
    row = find(session, job_id, lock=True)
    state = JobState(row.state)
    if state.is_final:
        raise Conflict(f"job {job_id} is {state.value} and cannot be cancelled", details={"state": state.value})
    if state is JobState.RUNNING:
        row.cancel_requested = True
    else:
        row.state, row.cancel_requested = JobState.CANCELLED.value, False
    row.updated = now
    return row


def cancel_requested(session: Session, job_id: str) -> bool:
    """The mark that :func:`cancel` leaves. Raises NotFound."""
    found = session.scalar(select(JobRow.cancel_requested).where(JobRow.id == job_id))
    if found is None:
        raise no_job(job_id)
    return found


def put_result(session: Session, catalogue: Catalogue, job_id: str, result: WorkloadResult, now: float) -> None:
    """Store or replace a result."""
    find(session, job_id, lock=True).updated = now
    row = {
        "job_id": job_id,
        "workload_key": catalogue.put_workload(session, result.workload),
        "verified": result.verified,
        "cached": result.cached,
        "default_s": result.default_s,
        "best_s": result.best_s,
        "data": catalogue.dumps(result),
    }
    upsert(session, JobResultRow, row, replace=True, unique="job_id,workload_key")


def append_events(
    session: Session, job_id: str, kind: str, data: Sequence[dict[str, object]], now: float
) -> list[JobEvent]:
    """Append some with the next numbers: counting up locks the job, and is undone with the transaction."""
    texts = [to_json(each) for each in data]
    last = session.scalar(
        update(JobRow)
        .where(JobRow.id == job_id)
        .values(event_count=JobRow.event_count + len(texts))
        .returning(JobRow.event_count)
    )
    if last is None:
        raise no_job(job_id)
    first = last - len(texts) + 1
    rows = [JobEventRow(job_id=job_id, number=n, time=now, kind=kind, data=text) for n, text in enumerate(texts, first)]
    session.add_all(rows)
    return [_event(row) for row in rows]


def events(session: Session, job_id: str, after: int, limit: int) -> tuple[JobEvent, ...]:
    """Events numbered above ``after``."""
    find(session, job_id)
    query = select(JobEventRow).where(JobEventRow.job_id == job_id, JobEventRow.number > after)
    return tuple(_event(row) for row in session.scalars(query.order_by(JobEventRow.number).limit(limit)))


def _event(row: JobEventRow) -> JobEvent:
    return JobEvent(row.job_id, row.number, row.time, row.kind, from_json(row.data))
