"""Claims in a PostgreSQL server; see :mod:`fettle.store.claims`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from fettle.store.claims import Claims, Held, taken
from fettle.store.sql.failures import translated

_KEEPALIVE = {"tcp_keepalives_idle": 30, "tcp_keepalives_interval": 10, "tcp_keepalives_count": 3}
"""Seconds, seconds, probes: a server notices within a minute that a claimant's machine is gone."""


class ServerClaims(Claims):
    """Between all clients of a PostgreSQL server: advisory locks, each held by a connection of its own.

    The connection must reach the server itself: a pooler that shares sessions (pgbouncer's transaction mode) would
    share the claim as well.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @contextmanager
    def claim(self, job_id: str) -> Iterator[Held]:
        key = int.from_bytes(hashlib.sha256(f"fettle.job {job_id}".encode()).digest()[:8], "big", signed=True)
        where = self._engine.url.render_as_string(hide_password=True)
        with ExitStack() as stack:
            with translated(where):
                connection = stack.enter_context(self._engine.connect())
                stack.callback(connection.invalidate)  # closes the session, and with it the lock
                connection.execution_options(isolation_level="AUTOCOMMIT")
                for name, value in _KEEPALIVE.items():
                    connection.execute(text(f"SET {name} = {value}"))
                if not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": key}):
                    raise taken(job_id)
                stack.callback(_let_go, connection, key)

            def held() -> None:
                with translated(where):  # the lock lives as long as the session that took it
                    connection.execute(text("SELECT 1"))

            yield held


def _let_go(connection: Connection, key: int) -> None:
    """Release a lock at once: a server ends a closed session, and what it held, a little later. Where the session is
    lost already, so is the lock."""
    with suppress(SQLAlchemyError):
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": key})
