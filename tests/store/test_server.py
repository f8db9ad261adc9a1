"""The suite on a PostgreSQL server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url, text

from fettle.store.api import Store
from fettle.store.open import open_store
from fettle.store.sql.engine import connect_engine
from fettle.store.sql.models import Base
from tests.postgres import fresh_schema
from tests.store.conformance import StoreConformance


@pytest.fixture(scope="module")
def emptied_url(postgres: str) -> Iterator[str]:
    """A store that tests leave empty: emptying tables is quicker than making them."""
    with fresh_schema(postgres) as url:
        yield url


class TestServer(StoreConformance):
    @pytest.fixture
    def store(self, emptied_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Store]:
        monkeypatch.setenv("FETTLE_ARTIFACTS", str(tmp_path / "artifacts"))
        with open_store(emptied_url) as store:
            yield store
        engine = connect_engine(make_url(emptied_url))
        with engine.begin() as connection:
            connection.execute(text(f"TRUNCATE {', '.join(Base.metadata.tables)}"))
        engine.dispose()
