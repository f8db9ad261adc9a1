"""Connections: how SQLite files and servers are opened, and what a transaction is on each."""

from __future__ import annotations

import random
import sqlite3
import time

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor
from sqlalchemy.pool import ConnectionPoolEntry

BUSY_SECONDS = 30
"""How long a SQLite writer waits for another process."""

_CONNECT_SECONDS = 10


def connect_engine(url: URL) -> Engine:
    """An engine for ``url``; connects on first use."""
    if url.get_backend_name() == "sqlite":
        return _sqlite_engine(url)
    arguments = {} if "connect_timeout" in url.query else {"connect_timeout": _CONNECT_SECONDS}
    return create_engine(url, pool_pre_ping=True, pool_size=8, max_overflow=24, connect_args=arguments)


def writing(engine: Engine) -> Engine:
    """The same connections, for transactions that write: SQLite takes its write lock at once.

    (A transaction that reads first and writes later fails with "database is locked", without waiting, when
    another process wrote in between.)
    """
    return engine.execution_options(fettle_begin="BEGIN IMMEDIATE")


def _sqlite_engine(url: URL) -> Engine:
    engine = create_engine(url, pool_size=8, max_overflow=24, connect_args={"timeout": BUSY_SECONDS})

    @event.listens_for(engine, "connect")
    def configure(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        # The driver would begin transactions by itself, and too late; ``begin`` below does.
        connection.isolation_level = None
        cursor = connection.cursor()
        _enter_wal(cursor)
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("fettle_begin", "BEGIN"))

    return engine


def _enter_wal(cursor: DBAPICursor) -> None:
    """Write-ahead logging, waiting for other processes that enter it.

    Two processes that open a fresh file at once both read its header and both want to rewrite it; SQLite does not
    let either wait for the other (each would hold what the other needs), so it ignores the busy time-out here.
    """
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(random.uniform(0.001, 0.02))
