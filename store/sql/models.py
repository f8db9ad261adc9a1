"""The tables. ``data`` columns hold a whole value as JSON text (devices and workloads in it by key);
the columns beside it repeat what people and queries ask for."""

from __future__ import annotations

from sqlalchemy import BigInteger, Double, ForeignKey, Index, Integer, MetaData, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

KEY = String(64)
"""A 256-bit key in hexadecimal."""

WORD = String(64)
"""A short name: a state, an outcome, an operator."""

JOB_ID = String(13).with_variant(String(13, collation="C"), "postgresql")
"""Job ids sort by creation, byte by byte whatever the server's language."""

ROW_ID = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows by itself only in INTEGER columns."""

IN_FLIGHT = "state IN ('queued', 'running', 'paused')"


class Base(DeclarativeBase):
    """Tables with predictable names of constraints, so that migrations can refer to them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class DeviceRow(Base):
    """A device, stored once and never changed: its key is its content."""

    __tablename__ = "devices"

    key: Mapped[str] = mapped_column(KEY, primary_key=True)
    backend: Mapped[str] = mapped_column(WORD)
    label: Mapped[str] = mapped_column(Text)
    data: Mapped[str] = mapped_column(Text)


class ProfileRow(Base):
    """The newest measured roofs of a device."""

    __tablename__ = "profiles"

    device_key: Mapped[str] = mapped_column(KEY, primary_key=True)
    measured: Mapped[float] = mapped_column(Double)
    data: Mapped[str] = mapped_column(Text)


class WorkloadRow(Base):
    """A workload, stored once and never changed."""

    __tablename__ = "workloads"
    __table_args__ = (Index(None, "operator"),)

    key: Mapped[str] = mapped_column(KEY, primary_key=True)
    operator: Mapped[str] = mapped_column(WORD)
    text: Mapped[str] = mapped_column(Text)
    data: Mapped[str] = mapped_column(Text)


class JobRow(Base):
    """A job. ``event_count`` numbers its events; at most one job of a key is in flight."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index("ix_jobs_in_flight", "key", unique=True, sqlite_where=IN_FLIGHT, postgresql_where=IN_FLIGHT),
        Index(None, "state", "id"),
    )

    id: Mapped[str] = mapped_column(JOB_ID, primary_key=True)
    key: Mapped[str] = mapped_column(KEY)
    state: Mapped[str] = mapped_column(WORD)
    device_key: Mapped[str] = mapped_column(KEY, ForeignKey("devices.key"))
    created: Mapped[float] = mapped_column(Double)
    updated: Mapped[float] = mapped_column(Double)
    trials: Mapped[int] = mapped_column(default=0)
    failed: Mapped[int] = mapped_column(default=0)
    event_count: Mapped[int] = mapped_column(default=0)
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    error: Mapped[str] = mapped_column(Text, default="")
    spec: Mapped[str] = mapped_column(Text)


class JobEventRow(Base):
    """One event; numbers run 1, 2, 3 … in each job."""

    __tablename__ = "job_events"

    job_id: Mapped[str] = mapped_column(JOB_ID, ForeignKey("jobs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    time: Mapped[float] = mapped_column(Double)
    kind: Mapped[str] = mapped_column(WORD)
    data: Mapped[str] = mapped_column(Text)


class JobResultRow(Base):
    """How one workload of a job ended."""

    __tablename__ = "job_results"
    __table_args__ = (UniqueConstraint("job_id", "workload_key"),)

    id: Mapped[int] = mapped_column(ROW_ID, primary_key=True)
    job_id: Mapped[str] = mapped_column(JOB_ID, ForeignKey("jobs.id"))
    workload_key: Mapped[str] = mapped_column(KEY, ForeignKey("workloads.key"))
    verified: Mapped[bool]
    cached: Mapped[bool]
    default_s: Mapped[float | None] = mapped_column(Double)
    best_s: Mapped[float | None] = mapped_column(Double)
    data: Mapped[str] = mapped_column(Text)


class RecordRow(Base):
    """One trial, raw samples kept in ``data``. ``median_s`` is NULL for a failure."""

    __tablename__ = "records"
    __table_args__ = (
        UniqueConstraint("job_id", "candidate_key"),
        Index(None, "job_id", "workload_key", "id"),
        Index(None, "workload_key", "device_key", "id"),
        Index(None, "device_key", "id"),
    )

    id: Mapped[int] = mapped_column(ROW_ID, primary_key=True)
    job_id: Mapped[str] = mapped_column(JOB_ID, ForeignKey("jobs.id"))
    candidate_key: Mapped[str] = mapped_column(KEY)
    workload_key: Mapped[str] = mapped_column(KEY, ForeignKey("workloads.key"))
    device_key: Mapped[str] = mapped_column(KEY, ForeignKey("devices.key"))
    outcome: Mapped[str] = mapped_column(WORD)
    basis: Mapped[str] = mapped_column(WORD)
    mode: Mapped[str] = mapped_column(WORD)
    verified: Mapped[bool]
    median_s: Mapped[float | None] = mapped_column(Double)
    artifact_sha256: Mapped[str] = mapped_column(KEY)
    toolchain: Mapped[str] = mapped_column(Text)
    space_version: Mapped[str] = mapped_column(Text)
    record_version: Mapped[int]
    created: Mapped[float] = mapped_column(Double)
    data: Mapped[str] = mapped_column(Text)


class ArtifactRow(Base):
    """An artifact whose bytes are a file; ``size`` is that file's in bytes, ``isa`` joined by spaces."""

    __tablename__ = "artifacts"

    sha256: Mapped[str] = mapped_column(KEY, primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    kind: Mapped[str] = mapped_column(Text)
    abi: Mapped[str] = mapped_column(Text)
    toolchain: Mapped[str] = mapped_column(Text)
    isa: Mapped[str] = mapped_column(Text)
    created: Mapped[float] = mapped_column(Double)


class KernelRow(Base):
    """A cached winner under its cache key; ``isa`` joined by spaces."""

    __tablename__ = "kernels"
    __table_args__ = (
        Index(None, "device_key", "operator", "created"),
        Index(None, "workload_key"),
        Index(None, "artifact_sha256"),
    )

    key: Mapped[str] = mapped_column(KEY, primary_key=True)
    workload_key: Mapped[str] = mapped_column(KEY, ForeignKey("workloads.key"))
    device_key: Mapped[str] = mapped_column(KEY, ForeignKey("devices.key"))
    artifact_sha256: Mapped[str] = mapped_column(KEY, ForeignKey("artifacts.sha256"))
    operator: Mapped[str] = mapped_column(WORD)
    mode: Mapped[str] = mapped_column(WORD)
    basis: Mapped[str] = mapped_column(WORD)
    default_s: Mapped[float] = mapped_column(Double)
    best_s: Mapped[float] = mapped_column(Double)
    toolchain: Mapped[str] = mapped_column(Text)
    abi: Mapped[str] = mapped_column(Text)
    isa: Mapped[str] = mapped_column(Text)
    space_version: Mapped[str] = mapped_column(Text)
    version: Mapped[int]
    created: Mapped[float] = mapped_column(Double)
    data: Mapped[str] = mapped_column(Text)
