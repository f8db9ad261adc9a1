"""Removes what nobody needs any more, inside a transaction of the caller."""

from __future__ import annotations

from sqlalchemy import delete, exists, func, select
from sqlalchemy.orm import Session

from fettle.store.sql.jobs import IN_FLIGHT
from fettle.store.sql.models import ArtifactRow, JobEventRow, JobResultRow, JobRow, KernelRow, RecordRow

_PLAIN = {"synchronize_session": False}  # the session holds none of these rows


def artifacts(session: Session, before: float) -> list[tuple[str, int]]:
    """Forget artifacts stored before a moment that no kernel names; their hashes and sizes in bytes."""
    unused = ~exists().where(KernelRow.artifact_sha256 == ArtifactRow.sha256)
    gone = delete(ArtifactRow).where(ArtifactRow.created < before, unused)
    rows = session.execute(gone.returning(ArtifactRow.sha256, ArtifactRow.size), execution_options=_PLAIN)
    return [(row.sha256, row.size) for row in rows]


def jobs(session: Session, before: float) -> tuple[int, int]:
    """Forget jobs that ended before a moment, with their trials and events; how many jobs and trials."""
    ended = select(JobRow.id).where(JobRow.updated < before, JobRow.state.not_in(IN_FLIGHT))
    trials = session.scalar(select(func.count()).where(RecordRow.job_id.in_(ended))) or 0
    for model in (RecordRow, JobEventRow, JobResultRow):
        session.execute(delete(model).where(model.job_id.in_(ended)), execution_options=_PLAIN)
    gone = delete(JobRow).where(JobRow.updated < before, JobRow.state.not_in(IN_FLIGHT)).returning(JobRow.id)
    return len(session.execute(gone, execution_options=_PLAIN).all()), trials
