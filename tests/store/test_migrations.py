"""Migrations give exactly the models' schema, and keep every row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Engine, MetaData, inspect, make_url, select

from fettle.graph.errors import DataLoss
from fettle.store.artifacts import ArtifactFiles
from fettle.store.claims import MemoryClaims
from fettle.store.open import open_store
from fettle.store.sql import schema
from fettle.store.sql.engine import connect_engine
from fettle.store.sql.models import Base
from fettle.store.sql.store import SqlStore
from tests.store.samples import ARTIFACT, PROFILE, kernel, record, result, spec


@pytest.fixture(params=["sqlite", "server"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        url = URL.create("sqlite", database=str(tmp_path / "a.sqlite3"))
    else:
        url = make_url(request.getfixturevalue("server_url"))
    engine = connect_engine(url)
    yield engine
    engine.dispose()


def _fill(engine: Engine, folder: Path) -> None:
    """At least one row in every table."""
    store = SqlStore(engine, ArtifactFiles(folder), MemoryClaims())
    job, _ = store.create_job(spec())
    store.add_record(job.id, record())
    store.append_event(job.id, "state", {"state": "running"})
    store.put_result(job.id, result())
    store.put_profile(PROFILE)
    store.put_artifact(ARTIFACT)
    store.put_kernel(kernel())


def _rows(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    found = MetaData()
    found.reflect(engine)
    with engine.connect() as connection:
        return {
            table.name: [dict(row) for row in connection.execute(select(table)).mappings()]
            for table in found.sorted_tables
            if table.name != schema.VERSION_TABLE
        }


def test_migrated_schema_equals_the_models(engine: Engine) -> None:
    assert schema.upgrade(engine) is None
    with engine.connect() as connection:
        options = {"version_table": schema.VERSION_TABLE, "compare_type": True, "compare_server_default": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata) == []
        assert schema.current_revision(connection, "here") == schema.REVISIONS[-1]


def test_revisions_are_listed_in_order() -> None:
    script = ScriptDirectory(str(schema.MIGRATIONS), version_locations=[str(schema.MIGRATIONS / "versions")])
    assert tuple(each.revision for each in script.walk_revisions())[::-1] == schema.REVISIONS


def test_at_most_one_job_of_a_key_is_in_flight(engine: Engine) -> None:
    schema.upgrade(engine)
    index = next(each for each in inspect(engine).get_indexes("jobs") if each["name"] == "ix_jobs_in_flight")
    assert index["unique"]
    conditions = [text for name, text in index["dialect_options"].items() if name.endswith("_where")]
    assert len(conditions) == 1
    assert all(state in str(conditions[0]) for state in ("queued", "running", "paused"))
    assert "done" not in str(conditions[0])


def test_upgrading_twice_changes_nothing(engine: Engine, tmp_path: Path) -> None:
    schema.upgrade(engine)
    _fill(engine, tmp_path)
    before = _rows(engine)
    assert all(before.values())
    assert schema.upgrade(engine) == schema.REVISIONS[-1]
    assert _rows(engine) == before


@pytest.mark.parametrize("revision", schema.REVISIONS)
def test_each_revision_can_be_reached_and_upgraded_from(engine: Engine, revision: str) -> None:
    schema.upgrade(engine, revision)
    assert schema.upgrade(engine) == revision
    schema.upgrade(engine)


_NEXT = """
import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{before}"


def upgrade():
    with op.batch_alter_table("jobs", recreate="{recreate}") as jobs:
        jobs.add_column(sa.Column("owner", sa.Text(), nullable=False, server_default="nobody"))
    {then}
"""


def _next_revision(folder: Path, engine: Engine, then: str = "") -> str:
    before = schema.REVISIONS[-1]
    recreate = "always" if engine.dialect.name == "sqlite" else "auto"
    folder.mkdir()
    (folder / "9999_next.py").write_text(
        _NEXT.format(revision="9999", before=before, recreate=recreate, then=then or "pass")
    )
    return before


def test_rebuilding_a_table_keeps_the_rows_that_refer_to_it(engine: Engine, tmp_path: Path) -> None:
    schema.upgrade(engine)
    _fill(engine, tmp_path)
    before = _rows(engine)
    _next_revision(tmp_path / "next", engine)
    schema.upgrade(engine, versions=[tmp_path / "next"])
    after = _rows(engine)
    assert [row.pop("owner") for row in after["jobs"]] == ["nobody"]
    assert after == before


def test_failed_upgrade_leaves_the_database_as_it_was(engine: Engine, tmp_path: Path) -> None:
    schema.upgrade(engine)
    _fill(engine, tmp_path)
    before = _rows(engine)
    _next_revision(tmp_path / "next", engine, then='raise RuntimeError("half way")')
    with pytest.raises(RuntimeError, match="half way"):
        schema.upgrade(engine, versions=[tmp_path / "next"])
    assert _rows(engine) == before
    with engine.connect() as connection:
        assert schema.current_revision(connection, "here") == schema.REVISIONS[-1]


def test_upgrade_that_orphans_rows_is_refused(tmp_path: Path) -> None:
    engine = connect_engine(URL.create("sqlite", database=str(tmp_path / "a.sqlite3")))
    schema.upgrade(engine)
    _fill(engine, tmp_path)
    before = _rows(engine)
    _next_revision(tmp_path / "next", engine, then='op.execute("DELETE FROM workloads")')
    with pytest.raises(DataLoss, match="missing"):
        schema.upgrade(engine, versions=[tmp_path / "next"])
    assert _rows(engine) == before
    engine.dispose()


def test_open_store_brings_an_empty_server_up_to_date(server_url: str) -> None:
    with open_store(server_url) as store:
        assert store.stats().jobs == 0
