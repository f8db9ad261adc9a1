"""The suite on a PostgreSQL server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, event, make_url, text

from fettle.store.api import Store
from fettle.store.artifacts import ArtifactFiles
from fettle.store.sql import schema
from fettle.store.sql.claims import ServerClaims
from fettle.store.sql.engine import connect_engine
from fettle.store.sql.models import Base
from fettle.store.sql.store import SqlStore
from tests.postgres import fresh_schema
from tests.store.conformance import StoreConformance
from tests.store.samples import spec


@pytest.fixture(scope="module")
def engine(postgres: str) -> Iterator[Engine]:
    """A database that tests leave empty: deleting rows is quicker than making tables."""
    with fresh_schema(postgres) as url:
        engine = connect_engine(make_url(url))
        schema.upgrade(engine)
        yield engine
        engine.dispose()


class TestServer(StoreConformance):
    @pytest.fixture
    def store(self, engine: Engine, tmp_path: Path) -> Iterator[Store]:
        yield SqlStore(engine, ArtifactFiles(tmp_path), ServerClaims(engine))
        with engine.begin() as connection:
            for table in reversed(Base.metadata.sorted_tables):
                connection.execute(table.delete())

    def test_a_claim_is_let_go_before_its_session_is_closed(self, engine: Engine, store: Store) -> None:
        """A server ends a closed session, and what it holds, a little later."""
        job, _ = store.create_job(spec())
        held: list[object] = []

        def count(*_: object) -> None:
            with engine.connect() as connection:
                held.append(connection.scalar(text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")))

        event.listen(engine, "invalidate", count)
        try:
            with store.claim_job(job.id):
                count()
        finally:
            event.remove(engine, "invalidate", count)
        assert held == [1, 0]
