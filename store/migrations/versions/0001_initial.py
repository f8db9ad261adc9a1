"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

KEY = sa.String(64)
WORD = sa.String(64)
JOB_ID = sa.String(13).with_variant(sa.String(13, collation="C"), "postgresql")
ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
IN_FLIGHT = "state IN ('queued', 'running', 'paused')"


def upgrade() -> None:
    _catalogue()
    _jobs()
    _records()
    _kernels()


def downgrade() -> None:
    tables = "kernels artifacts records job_results job_events jobs workloads profiles devices"
    for table in tables.split():
        op.drop_table(table)


def _catalogue() -> None:
    op.create_table(
        "devices",
        sa.Column("key", KEY, nullable=False),
        sa.Column("backend", WORD, nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_devices"),
    )
    op.create_table(
        "profiles",
        sa.Column("device_key", KEY, nullable=False),
        sa.Column("measured", sa.Double(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("device_key", name="pk_profiles"),
    )
    op.create_table(
        "workloads",
        sa.Column("key", KEY, nullable=False),
        sa.Column("operator", WORD, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_workloads"),
    )
    op.create_index("ix_workloads_operator", "workloads", ["operator"])


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", JOB_ID, nullable=False),
        sa.Column("key", KEY, nullable=False),
        sa.Column("state", WORD, nullable=False),
        sa.Column("device_key", KEY, nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("updated", sa.Double(), nullable=False),
        sa.Column("trials", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("event_count", sa.Integer(), nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["device_key"], ["devices.key"], name="fk_jobs_device_key_devices"),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
    )
    op.create_index(
        "ix_jobs_in_flight",
        "jobs",
        ["key"],
        unique=True,
        sqlite_where=sa.text(IN_FLIGHT),
        postgresql_where=sa.text(IN_FLIGHT),
    )
    op.create_index("ix_jobs_state_id", "jobs", ["state", "id"])
    op.create_table(
        "job_events",
        sa.Column("job_id", JOB_ID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("kind", WORD, nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_job_events_job_id_jobs"),
        sa.PrimaryKeyConstraint("job_id", "number", name="pk_job_events"),
    )
    op.create_table(
        "job_results",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("job_id", JOB_ID, nullable=False),
        sa.Column("workload_key", KEY, nullable=False),
        sa.Column("verified", sa.Boolean(), nullable=False),
        sa.Column("cached", sa.Boolean(), nullable=False),
        sa.Column("default_s", sa.Double(), nullable=True),
        sa.Column("best_s", sa.Double(), nullable=True),
        sa.Column("data", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_job_results_job_id_jobs"),
        sa.ForeignKeyConstraint(["workload_key"], ["workloads.key"], name="fk_job_results_workload_key_workloads"),
        sa.PrimaryKeyConstraint("id", name="pk_job_results"),
        sa.UniqueConstraint("job_id", "workload_key", name="uq_job_results_job_id_workload_key"),
    )


def _records() -> None:
    op.create_table(
        "records",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("job_id", JOB_ID, nullable=False),
        sa.Column("candidate_key", KEY, nullable=False),
        sa.Column("workload_key", KEY, nullable=False),
        sa.Column("device_key", KEY, nullable=False),
        sa.Column("outcome", WORD, nullable=False),
        sa.Column("basis", WORD, nullable=False),
        sa.Column("mode", WORD, nullable=False),
        sa.Column("verified", sa.Boolean(), nullable=False),
        sa.Column("median_s", sa.Double(), nullable=True),
        sa.Column("artifact_sha256", KEY, nullable=False),
        sa.Column("toolchain", sa.Text(), nullable=False),
        sa.Column("space_version", sa.Text(), nullable=False),
        sa.Column("record_version", sa.Integer(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_records_job_id_jobs"),
        sa.ForeignKeyConstraint(["workload_key"], ["workloads.key"], name="fk_records_workload_key_workloads"),
        sa.ForeignKeyConstraint(["device_key"], ["devices.key"], name="fk_records_device_key_devices"),
        sa.PrimaryKeyConstraint("id", name="pk_records"),
        sa.UniqueConstraint("job_id", "candidate_key", name="uq_records_job_id_candidate_key"),
    )
    op.create_index("ix_records_job_id_workload_key_id", "records", ["job_id", "workload_key", "id"])
    op.create_index("ix_records_workload_key_device_key_id", "records", ["workload_key", "device_key", "id"])
    op.create_index("ix_records_device_key_id", "records", ["device_key", "id"])


def _kernels() -> None:
    op.create_table(
        "artifacts",
        sa.Column("sha256", KEY, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("abi", sa.Text(), nullable=False),
        sa.Column("toolchain", sa.Text(), nullable=False),
        sa.Column("isa", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name="pk_artifacts"),
    )
    op.create_table(
        "kernels",
        sa.Column("key", KEY, nullable=False),
        sa.Column("workload_key", KEY, nullable=False),
        sa.Column("device_key", KEY, nullable=False),
        sa.Column("artifact_sha256", KEY, nullable=False),
        sa.Column("operator", WORD, nullable=False),
        sa.Column("mode", WORD, nullable=False),
        sa.Column("basis", WORD, nullable=False),
        sa.Column("default_s", sa.Double(), nullable=False),
        sa.Column("best_s", sa.Double(), nullable=False),
        sa.Column("toolchain", sa.Text(), nullable=False),
        sa.Column("abi", sa.Text(), nullable=False),
        sa.Column("isa", sa.Text(), nullable=False),
        sa.Column("space_version", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["workload_key"], ["workloads.key"], name="fk_kernels_workload_key_workloads"),
        sa.ForeignKeyConstraint(["device_key"], ["devices.key"], name="fk_kernels_device_key_devices"),
        sa.ForeignKeyConstraint(["artifact_sha256"], ["artifacts.sha256"], name="fk_kernels_artifact_sha256_artifacts"),
        sa.PrimaryKeyConstraint("key", name="pk_kernels"),
    )
    op.create_index("ix_kernels_device_key_operator_created", "kernels", ["device_key", "operator", "created"])
    op.create_index("ix_kernels_workload_key", "kernels", ["workload_key"])
    op.create_index("ix_kernels_artifact_sha256", "kernels", ["artifact_sha256"])
