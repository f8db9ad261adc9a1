"""Who runs a job: at most one runner at a time, and none once its process is gone, however it died.

A claim lives in the operating system or in the database server, not in a row, so that nothing has to be cleaned
up, and nobody has to guess from a heartbeat whether a runner is still alive.
"""

from __future__ import annotations

import abc
import contextlib
import errno
import fcntl
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from sqlalchemy import Engine, text

from fettle.graph.errors import Conflict, StoreFull, StoreUnavailable
from fettle.store.sql.failures import translated

_KEEPALIVE = {"tcp_keepalives_idle": 30, "tcp_keepalives_interval": 10, "tcp_keepalives_count": 3}
"""Seconds, seconds, probes: a server notices within a minute that a claimant's machine is gone."""

Held = Callable[[], None]
"""Asks whether a claim still holds; raises StoreUnavailable once it is lost. For the thread that made the claim."""


class Claims(abc.ABC):
    """Hands out claims on jobs of one store."""

    @abc.abstractmethod
    def claim(self, job_id: str) -> AbstractContextManager[Held]:
        """Hold a job until the context is left or this process dies. ``job_id`` is that of a stored job.

        Raises on entering:
            Conflict: another thread or process holds it.
            StoreUnavailable, StoreFull: the claim cannot be made at all.
        """


class MemoryClaims(Claims):
    """Between the threads of one process."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._held: set[str] = set()

    @contextmanager
    def claim(self, job_id: str) -> Iterator[Held]:
        with self._mutex:
            if job_id in self._held:
                raise _taken(job_id)
            self._held.add(job_id)
        try:
            yield _always
        finally:
            with self._mutex:
                self._held.discard(job_id)


class FileClaims(Claims):
    """Between the processes of one machine: a locked file per claim; the kernel unlocks it when its holder dies."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def claim(self, job_id: str) -> Iterator[Held]:
        path = self._folder / job_id
        try:
            descriptor = self._lock(path)
        except BlockingIOError:
            raise _taken(job_id) from None
        except OSError as error:
            kind = StoreFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else StoreUnavailable
            raise kind(
                f"job {job_id} cannot be claimed with the file {path}: {error.strerror}",
                hint="check that the store's folder has space, is writable and knows file locks",
            ) from error
        try:
            yield _always
        finally:
            with contextlib.suppress(OSError):
                path.unlink()  # while it is locked: whoever opened it before finds that it is gone
            os.close(descriptor)

    def _lock(self, path: Path) -> int:
        """A descriptor of the locked file. Raises BlockingIOError if another has it."""
        self._folder.mkdir(exist_ok=True)
        while True:
            # Not inheritable: workers that outlive their host for a moment hold no claim.
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_file(descriptor, path):
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)  # its last holder removed it between our open and our lock


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
                    raise _taken(job_id)

            def held() -> None:
                with translated(where):  # the lock lives as long as the session that took it
                    connection.execute(text("SELECT 1"))

            yield held


def _always() -> None:
    """Holds as long as its holder lives: of a claim that nobody else can take away."""


def _is_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _taken(job_id: str) -> Conflict:
    return Conflict(
        f"job {job_id} is being run by another process",
        hint=f"follow it with: fettle jobs watch {job_id}",
        details={"job": job_id},
    )
