"""The server to test against, if TEST_DB_URL names one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url, text

from fettle.store.sql.engine import connect_engine

pytest.register_assert_rewrite("tests.store.conformance")


@pytest.fixture
def server_url(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A PostgreSQL URL whose tables live in a schema of this test alone; artifacts under ``tmp_path``."""
    given = os.environ.get("TEST_DB_URL")
    if not given:
        pytest.skip("TEST_DB_URL names no server")
    monkeypatch.setenv("FETTLE_ARTIFACTS", str(tmp_path / "artifacts"))
    url = make_url(given).set(drivername="postgresql+psycopg")
    engine = connect_engine(url)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA IF EXISTS fettle_test CASCADE"))
        connection.execute(text("CREATE SCHEMA fettle_test"))
    url = url.update_query_dict({"options": "-csearch_path=fettle_test"})
    yield url.render_as_string(hide_password=False)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA fettle_test CASCADE"))
    engine.dispose()
