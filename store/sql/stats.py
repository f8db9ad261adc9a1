"""Counts for people, inside a transaction of the caller."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from fettle.store.api import Stats
from fettle.store.sql.models import ArtifactRow, DeviceRow, JobRow, KernelRow, RecordRow, WorkloadRow


def count(session: Session) -> Stats:
    """All of them."""

    def rows(model: type[RecordRow | KernelRow | JobRow | DeviceRow | WorkloadRow | ArtifactRow]) -> int:
        return session.scalar(select(func.count()).select_from(model)) or 0

    failed = select(func.count()).select_from(RecordRow).where(RecordRow.outcome != "ok")
    return Stats(
        kernels=rows(KernelRow),
        records=rows(RecordRow),
        failed_records=session.scalar(failed) or 0,
        jobs=rows(JobRow),
        devices=rows(DeviceRow),
        workloads=rows(WorkloadRow),
        artifacts=rows(ArtifactRow),
        artifact_bytes=int(session.scalar(select(func.sum(ArtifactRow.size))) or 0),
    )
