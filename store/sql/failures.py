"""Turns what database drivers raise into the error tree, in one place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import exc

from fettle.graph.errors import (
    DataLoss,
    FettleError,
    InvalidArgument,
    ResourceExhausted,
    StoreFull,
    StoreUnavailable,
)

_DISK_FULL_HINT = "free some space; nothing was left half written"


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Raise errors of the database at ``where`` as ours; defects (a wrong statement) pass unchanged."""
    try:
        yield
    except exc.TimeoutError as error:
        raise StoreUnavailable(f"all connections to {where} are busy", hint="try again") from error
    except exc.DBAPIError as error:
        ours = _sqlite(error, where) or _server(error, where)
        if ours is None:
            raise
        raise ours from error


def _sqlite(error: exc.DBAPIError, where: str) -> FettleError | None:
    name: str = getattr(error.orig, "sqlite_errorname", "")
    if not name:
        return None
    if name.startswith("SQLITE_FULL"):
        return StoreFull(f"no space left for {where}", hint=_DISK_FULL_HINT)
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StoreUnavailable(f"{where} is locked by another process", hint="try again when it has finished writing")
    if name == "SQLITE_NOTADB":
        return InvalidArgument(f"{where} is not a database file", hint="name another file, or remove this one")
    if name.startswith("SQLITE_CORRUPT"):
        return DataLoss(f"the database {where} is damaged", hint="restore a copy, or remove the file and tune again")
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_IOERR", "SQLITE_PERM")):
        return StoreUnavailable(
            f"{where} cannot be opened for writing: {error.orig}",
            hint="check that file and directory exist and are writable, or choose another with --store or FETTLE_STORE",
        )
    return None


def _server(error: exc.DBAPIError, where: str) -> FettleError | None:
    state: str = getattr(error.orig, "sqlstate", None) or ""
    if state == "53100":
        return StoreFull(f"no space left for {where}: {error.orig}", hint=_DISK_FULL_HINT)
    if state.startswith("53"):  # insufficient resources
        return ResourceExhausted(f"{where}: {error.orig}")
    if state.startswith("40"):  # rolled back, because of another transaction
        return StoreUnavailable(f"{where} is busy: {error.orig}", hint="try again")
    if isinstance(error, exc.DataError):
        return InvalidArgument(f"a value the database cannot hold: {error.orig}")
    if isinstance(error, exc.OperationalError | exc.InterfaceError):
        return StoreUnavailable(
            f"{where} cannot be reached: {error.orig}", hint="check that the server runs and the URL"
        )
    return None
