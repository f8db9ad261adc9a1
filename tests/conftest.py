"""For the whole suite: how hypothesis draws, what an interrupt does, and a database server."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

# No deadlines (machines are busy); the same examples on every CI run.
settings.register_profile("fettle", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("fettle")

# Shells start what they put in the background (`pytest &`) with interrupts ignored, and whatever tests start would
# inherit that: of what Ctrl-C does nothing could be asserted.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server; skips where there is none."""
    from tests.postgres import server_for_tests

    with server_for_tests() as url:
        yield url
