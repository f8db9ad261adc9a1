"""Connections: how SQLite files and servers are opened, and what a transaction is on each."""

from __future__ import annotations

import random
import sqlite3
import time
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor
from sqlalchemy.pool import ConnectionPoolEntry

from fettle.graph.errors import StoreUnavailable

BUSY_SECONDS = 30
"""How long a SQLite writer waits for another process."""

_NETWORK = {
    "connect_timeout": 10,  # seconds
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,  # milliseconds
}
"""A database server whose machine or network is gone is noticed within a minute. What the URL says goes before."""


def connect_engine(url: URL, *, read_only: bool = False) -> Engine:
    """An engine for ``url``; connects on first use. ``read_only``, of a SQLite file: whatever writes fails."""
    if url.get_backend_name() == "sqlite":
        return _reading_engine(url) if read_only else _sqlite_engine(url)
    arguments = {name: value for name, value in _NETWORK.items() if name not in url.query}
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
        # The driver would begin transactions by itself, and too late; ``_begin`` does.
        connection.isolation_level = None
        cursor = connection.cursor()
        _enter_wal(cursor)
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    event.listen(engine, "begin", _begin)
    _keep_to_one_file(engine, Path(url.database or ""))
    return engine


def _keep_to_one_file(engine: Engine, file: Path) -> None:
    """Refuse connections once the file was removed or replaced.

    Open ones would go on with a file that has no name any more, and new ones would begin an empty one.
    """
    opened: list[tuple[int, int]] = []

    def check(*_: object) -> None:
        if opened and _identity(file) != opened[0]:
            raise StoreUnavailable(
                f"{file} was removed or replaced while it was open",
                hint="restore it, and start whatever uses it again",
            )

    def remember(*_: object) -> None:
        identity = _identity(file)
        if identity is not None and not opened:
            opened.append(identity)

    event.listen(engine, "do_connect", check)
    event.listen(engine, "connect", remember)
    event.listen(engine, "checkout", check)


def _identity(file: Path) -> tuple[int, int] | None:
    """Device and number of a file, None if there is none of that name."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("fettle_begin", "BEGIN"))


def _reading_engine(url: URL) -> Engine:
    """Reads a SQLite file that this process may not write.

    Readers of a write-ahead log share a file with its writers, which is there while a writer is, and which nobody
    can make where nothing may be written. Without it the database is at rest and is read without locks, unless it was
    copied with a log that is not part of it yet. Each transaction looks again, since a writer elsewhere may have come.
    """
    file = Path(url.database or "")
    log = Path(f"{file}-wal")

    def connect() -> sqlite3.Connection:
        shared = Path(f"{file}-shm").exists()
        if not shared and _has_content(log):
            raise StoreUnavailable(
                f"{file} lacks what is still in its log {log.name}, and its folder may not be written to put it in",
                hint=f"open it once where it may be written (fettle cache stats --store {file}), or copy the original "
                "with: fettle db backup",
            )
        options = "mode=ro" if shared else "mode=ro&immutable=1"
        return sqlite3.connect(
            f"{file.as_uri()}?{options}", uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )

    engine = create_engine(url, creator=connect, poolclass=NullPool)
    event.listen(engine, "begin", _begin)
    return engine


def _has_content(file: Path) -> bool:
    try:
        return file.stat().st_size > 0
    except FileNotFoundError:
        return False


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
