"""Stores on a PostgreSQL server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres import fresh_schema

pytest.register_assert_rewrite("tests.store.conformance")


@pytest.fixture
def server_url(postgres: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty store; artifacts lie under ``tmp_path``."""
    monkeypatch.setenv("FETTLE_ARTIFACTS", str(tmp_path / "artifacts"))
    with fresh_schema(postgres) as url:
        yield url
