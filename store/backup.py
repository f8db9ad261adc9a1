"""A copy of a store while it is in use."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from fettle.graph.errors import Conflict, InvalidArgument, StoreFull, StoreUnavailable, Unsupported
from fettle.store.open import FILE_NAME, resolve


def back_up(url: str | None, folder: Path) -> Path:
    """Copy a SQLite store and its artifacts into a folder, which is then a store itself.

    The database is copied as of one moment, with what is still in its log, while others go on writing. Artifacts
    never change and are written before what names them, so copying the database first finds all it names.

    Args:
        url: see :func:`fettle.store.open.open_store`.
        folder: does not exist yet, or is empty.

    Returns:
        The copied database file.

    Raises:
        InvalidArgument: there is no store at ``url``.
        Conflict: the folder holds something.
        Unsupported: the store is on a server, which has tools of its own.
        StoreFull, StoreUnavailable: the copy cannot be written, or the store cannot be read.
    """
    target, artifacts = resolve(url)
    if target.get_backend_name() != "sqlite":
        raise Unsupported("stores on servers are copied by the server's tools", hint=f"pg_dump, and copy {artifacts}")
    source = Path(target.database or "")
    if not source.is_file():
        raise InvalidArgument(f"there is no store at {source}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise Conflict(f"{folder} is not empty", hint="name a new folder for each copy")
        copy = folder / FILE_NAME
        with closing(sqlite3.connect(source)) as reading, closing(sqlite3.connect(copy)) as writing:
            reading.backup(writing)
            # One file, at rest, can be read where nothing may be written.
            writing.execute("PRAGMA journal_mode=DELETE")
        if artifacts.is_dir():
            shutil.copytree(artifacts, folder / artifacts.name, ignore=shutil.ignore_patterns(".new-*"))
    except sqlite3.Error as error:
        damaged = error.sqlite_errorname in ("SQLITE_CORRUPT", "SQLITE_NOTADB")
        kind = StoreFull if error.sqlite_errorname == "SQLITE_FULL" else StoreUnavailable
        hint = "restore an earlier copy" if damaged else "remove the folder and try again"
        raise kind(f"{source} cannot be copied to {folder}: {error}", hint=hint) from error
    except OSError as error:  # shutil.Error, which gathers those of single files, is one
        raise StoreUnavailable(f"{source} cannot be copied to {folder}: {error}") from error
    return copy
