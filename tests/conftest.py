"""For the whole suite: how hypothesis draws, and a database server."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

# No deadlines (machines are busy); the same examples on every CI run.
settings.register_profile("fettle", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("fettle")


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server; skips where there is none."""
    from tests.postgres import server_for_tests

    with server_for_tests() as url:
        yield url
