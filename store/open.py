"""Opens a store by URL or path."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from platformdirs import user_data_path
from sqlalchemy import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError

from fettle.graph.errors import Conflict, InvalidArgument, NotFound, Unavailable, Unsupported
from fettle.store.api import Store
from fettle.store.artifacts import ArtifactFiles
from fettle.store.claims import Claims, FileClaims
from fettle.store.sql import schema
from fettle.store.sql.claims import ServerClaims
from fettle.store.sql.engine import connect_engine
from fettle.store.sql.failures import translated
from fettle.store.sql.store import SqlStore

FILE_NAME = "fettle.sqlite3"

_FORMS = "a store is a file or folder, sqlite:///FILE, or postgresql+psycopg://USER@HOST/DATABASE"


def open_store(url: str | os.PathLike[str] | None = None, *, upgrade: bool = True, create: bool = True) -> Store:
    """The store at ``url``; a fresh or empty database gets its tables.

    A SQLite file that may not be written, or that lies in such a folder, is opened for reading: deployments look
    kernels up on read-only file systems. Whatever would write raises Unavailable then.

    Args:
        url: a file, a folder that is empty or holds ``fettle.sqlite3``, ``sqlite:///FILE``, or
            ``postgresql+psycopg://USER@HOST/DATABASE``. None: the environment's FETTLE_STORE, else
            ``fettle.sqlite3`` in the user's data folder. Artifacts lie in ``artifacts`` beside a SQLite file;
            for a server in the folder FETTLE_ARTIFACTS names, else in the user's data folder.
        upgrade: bring an older schema up to date; else it is an error.
        create: make a SQLite file that does not exist; else it is an error.

    Raises:
        InvalidArgument: a malformed URL, a folder of something else, a file that is no database of fettle's.
        Unavailable: the folder is missing, a file cannot be made in it, or the server cannot be reached.
        Unsupported: the database is newer than this fettle, or the driver is not installed.
        Conflict: the schema is older and ``upgrade`` is False.
        NotFound: there is no such file and ``create`` is False.
    """
    target, artifacts = resolve(url)
    if not create and target.get_backend_name() == "sqlite" and not os.path.exists(target.database or ""):
        raise NotFound(f"there is no store at {target.database}", hint="name another with --store or FETTLE_STORE")
    engine = connect_engine(target, read_only=_is_read_only(target))
    try:
        _check_schema(engine, upgrade)
    except BaseException:
        engine.dispose()
        raise
    return SqlStore(engine, ArtifactFiles(artifacts), _claims(engine))


@contextmanager
def store_at(place: Store | str | os.PathLike[str] | None) -> Iterator[Store]:
    """An open store as it is; else the store at a URL or path, or the user's own, closed in the end.

    Raises:
        see :func:`open_store`.
    """
    if isinstance(place, Store):
        yield place
    else:
        with open_store(place) as opened:
            yield opened


def artifact_folder(url: str | os.PathLike[str] | None = None) -> Path:
    """The folder of the artifacts of the store at ``url``; see :func:`open_store`, also for what it raises."""
    return resolve(url)[1]


def _claims(engine: Engine) -> Claims:
    """Beside a SQLite file, in the folder ``FILE-claims``; else in the server."""
    if engine.url.get_backend_name() != "sqlite":
        return ServerClaims(engine)
    return FileClaims(Path(f"{engine.url.database}-claims"))


def _check_schema(engine: Engine, upgrade: bool) -> None:
    where = engine.url.render_as_string(hide_password=True)
    with translated(where):
        with engine.connect() as connection:
            revision = schema.current_revision(connection, where)
        if schema.check_revision(revision, where):
            return
        if revision is not None and not upgrade:
            raise Conflict(
                f"{where} has schema {revision}; this fettle needs {schema.REVISIONS[-1]}",
                hint="run: fettle db upgrade",
                details={"schema": revision, "needed": schema.REVISIONS[-1]},
            )
        schema.upgrade(engine)


def resolve(url: str | os.PathLike[str] | None) -> tuple[URL, Path]:
    """The URL of the store's database and the folder of its artifacts; see :func:`open_store`."""
    if url is not None and not isinstance(url, str | os.PathLike):  # Python callers pass anything
        raise InvalidArgument(f"a store is an open one, a URL or a path, not {type(url).__name__}", hint=_FORMS)
    url = os.fspath(url) if url else os.environ.get("FETTLE_STORE")
    if not url:
        folder = user_data_path("fettle", appauthor=False)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(
                f"the store's folder {folder} cannot be made: {error}",
                hint="choose another with --store or FETTLE_STORE",
            ) from error
        return _sqlite(folder / FILE_NAME)
    if "://" not in url:
        return _sqlite(_file(url))
    try:
        target = make_url(url)
    except (ArgumentError, ValueError):
        raise InvalidArgument("malformed store URL", hint=_FORMS) from None  # not repeated: it may hold a password
    if target.drivername in ("sqlite", "sqlite+pysqlite"):
        if not target.database or target.database == ":memory:" or target.query:
            raise InvalidArgument(
                f"store URL {url!r} names no file", hint="write sqlite:///FILE, sqlite:////ABSOLUTE/FILE"
            )
        return _sqlite(_file(target.database))
    return _server(target)


def _file(text: str) -> Path:
    """The database file that a path means."""
    if "\0" in text:
        raise InvalidArgument(f"{text[:200]!r} cannot be a store: it has a null character", hint=_FORMS)
    path = Path(text).expanduser()
    try:
        if path.is_dir():
            file = path / FILE_NAME
            if not file.exists() and any(path.iterdir()):
                raise InvalidArgument(f"folder {path} holds other things", hint=f"name the file: {file}")
            path = file
        if path.exists() and not path.is_file():
            raise InvalidArgument(f"{path} is not a file", hint=_FORMS)
        if not path.parent.is_dir():
            raise Unavailable(f"the folder {path.parent} does not exist", hint=f"make it first: mkdir -p {path.parent}")
    except OSError as error:
        raise InvalidArgument(f"{text[:200]!r} cannot be a store: {error}", hint=_FORMS) from error
    return path.absolute()


def _sqlite(file: Path) -> tuple[URL, Path]:
    if not (file.exists() or os.access(file.parent, os.W_OK)):
        raise Unavailable(
            f"{file} does not exist, and its folder cannot be written",
            hint="make the folder writable, or choose another with --store or FETTLE_STORE",
        )
    return URL.create("sqlite", database=str(file)), file.parent / "artifacts"


def _is_read_only(target: URL) -> bool:
    """Whether the URL is that of a file that may be read only. SQLite keeps its log beside the file it writes."""
    if target.get_backend_name() != "sqlite" or not os.path.exists(target.database or ""):
        return False
    file = Path(target.database or "")
    return not (os.access(file, os.W_OK) and os.access(file.parent, os.W_OK))


def _server(target: URL) -> tuple[URL, Path]:
    if target.drivername not in ("postgresql", "postgresql+psycopg"):
        raise InvalidArgument(f"{target.drivername!r} is no database fettle knows", hint=_FORMS)
    if find_spec("psycopg") is None:
        raise Unsupported("PostgreSQL needs a driver", hint="pip install 'fettle-tuner[postgres]'")
    folder = os.environ.get("FETTLE_ARTIFACTS")
    artifacts = Path(folder) if folder else user_data_path("fettle", appauthor=False) / "artifacts"
    return target.set(drivername="postgresql+psycopg"), artifacts
