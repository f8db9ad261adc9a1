"""Who runs a job: at most one runner at a time, and none once its process is gone, however it died.

A claim lives in the operating system or in the database server, not in a row, so that nothing has to be cleaned
up, and nobody has to guess from a heartbeat whether a runner is still alive.
"""

from __future__ import annotations

import abc
import contextlib
import errno
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from fettle.graph.errors import Conflict, StoreFull, StoreUnavailable

Held = Callable[[], None]
"""Asks whether a claim still holds; raises StoreUnavailable once it is lost. For the thread that made the claim."""


def taken(job_id: str) -> Conflict:
    """The error of a claim that another holds."""
    return Conflict(
        f"job {job_id} is being run by another process",
        hint=f"follow it with: fettle jobs watch {job_id}",
        details={"job": job_id},
    )


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
                raise taken(job_id)
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
            raise taken(job_id) from None
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


def _always() -> None:
    """Holds as long as its holder lives: of a claim that nobody else can take away."""


def _is_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
