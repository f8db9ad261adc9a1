"""Which schema a database has, and how it gets the present one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from fettle.graph.errors import DataLoss, InvalidArgument, Unsupported
from fettle.store.sql.engine import writing

REVISIONS = ("0001",)
"""Every revision in ``migrations/versions``, oldest first."""

VERSION_TABLE = "fettle_schema"
"""Where Alembic keeps the revision; its usual name would clash with other programs in one database."""

MIGRATIONS = Path(__file__).parent.parent / "migrations"

_LOCK = 0x666574746C65  # "fettle": one process at a time migrates a server's database


def current_revision(connection: Connection, where: str) -> str | None:
    """The revision of a database; None for an empty one.

    Raises:
        InvalidArgument: it holds tables of another program.
    """
    tables = inspect(connection).get_table_names()
    if VERSION_TABLE in tables:
        revision: str | None = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))
        return revision
    if tables:
        raise InvalidArgument(
            f"{where} is a database of another program (it has tables {', '.join(sorted(tables)[:3])})",
            hint="give fettle a database of its own",
        )
    return None


def check_revision(revision: str | None, where: str) -> bool:
    """True if a database of that revision is up to date, False if it is older or empty.

    Raises:
        Unsupported: it was written by a newer fettle.
    """
    if revision is not None and revision not in REVISIONS:
        raise Unsupported(
            f"{where} has schema {revision}, newer than this fettle knows ({REVISIONS[-1]})",
            hint="upgrade fettle, or name another store with --store or FETTLE_STORE",
            details={"schema": revision, "known": REVISIONS[-1]},
        )
    return revision == REVISIONS[-1]


def upgrade(engine: Engine, revision: str = "head", *, versions: Sequence[Path] = ()) -> str | None:
    """Bring a database to ``revision``, in one transaction; several processes may try at once.

    Args:
        engine: from ``engine.connect_engine``.
        revision: one of REVISIONS or ``head``.
        versions: further folders with revisions.

    Returns:
        The revision found before; None for an empty database.

    Raises:
        InvalidArgument: the database belongs to another program.
        Unsupported: its schema is newer than this fettle.
    """
    from alembic import command  # not needed to open a store that is up to date
    from alembic.config import Config

    where = engine.url.render_as_string(hide_password=True)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    folders = "\n".join(str(folder) for folder in (MIGRATIONS / "versions", *versions))
    config.set_main_option("version_locations", folders.replace("%", "%%"))
    is_sqlite = engine.dialect.name == "sqlite"
    with writing(engine).connect() as connection:
        if is_sqlite:  # rebuilding a table drops it, which would cascade; has no effect inside a transaction
            _pragma(connection, "foreign_keys=OFF")
        try:
            with connection.begin():
                if not is_sqlite:
                    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
                before = current_revision(connection, where)
                if not versions and check_revision(before, where) and revision in ("head", before):
                    return before  # another process was faster
                config.attributes["connection"] = connection
                command.upgrade(config, revision)
                if is_sqlite and connection.exec_driver_sql("PRAGMA foreign_key_check").first():
                    raise DataLoss(f"rows of {where} name rows that are missing; the schema was left as it was")
        finally:
            if is_sqlite:
                _pragma(connection, "foreign_keys=ON")
    return before


def _pragma(connection: Connection, setting: str) -> None:
    driver = connection.connection.driver_connection
    assert driver is not None
    driver.execute(f"PRAGMA {setting}")
