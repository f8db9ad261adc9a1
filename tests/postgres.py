"""A PostgreSQL server for tests: the one FETTLE_TEST_POSTGRES names, else one of our own where it is installed."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import make_url, text

from fettle.store.sql.engine import connect_engine

_FAST = "-c fsync=off -c full_page_writes=off -c shared_buffers=16MB -c listen_addresses="
"""Safe against a crash of the server (synchronous_commit stays on), not of the machine."""


def _program(name: str) -> str:
    """A program of PostgreSQL's, on the path or where Debian keeps it; skips the test if there is none."""
    kept = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    found = shutil.which(name) or (str(kept[-1]) if kept else None)
    if found is None:
        pytest.skip(f"no PostgreSQL: {name} is not installed, and FETTLE_TEST_POSTGRES names no server")
    return found


def _account() -> str | None:
    """Whom the server runs as: it refuses root. None: whoever runs the tests."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres")


class Postgres:
    """A server on a socket in a folder of its own; see :func:`own_server`."""

    def __init__(self, folder: Path, program: str, account: str | None) -> None:
        self._folder, self._program, self._account = folder, program, account
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Of its database."""
        return f"postgresql+psycopg://fettle@/postgres?host={self._folder}"

    def start(self) -> None:
        """Returns once it answers."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, "-D", self._folder / "data", "-k", self._folder, *_FAST.split()],
                stdout=log,
                stderr=log,
                user=self._account,
            )
        engine = connect_engine(make_url(self.url))
        try:
            for _ in range(400):
                try:
                    engine.connect().close()
                    return
                except Exception:
                    assert self._process.poll() is None, (self._folder / "log").read_text()
                    time.sleep(0.05)
        finally:
            engine.dispose()
        raise AssertionError("the server does not answer")

    def crash(self) -> None:
        """Every connection is cut at once, nothing is written down."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(30)


@contextmanager
def own_server() -> Iterator[Postgres]:
    """A server that nobody else uses. Skips the test where PostgreSQL or its driver is not installed."""
    pytest.importorskip("psycopg", reason="the driver is not installed: pip install '.[postgres]'")
    initdb, program, account = _program("initdb"), _program("postgres"), _account()
    # Not pytest's own folder: the path of a socket has 107 characters at most, and another user must reach it.
    with tempfile.TemporaryDirectory(prefix="fettle-pg-") as name:
        folder = Path(name)
        if account is not None:
            shutil.chown(folder, account)
        options = "--auth=trust --username=fettle --encoding=UTF8 --locale=C --no-sync --no-instructions"
        subprocess.run(
            [initdb, "-D", folder / "data", *options.split()], check=True, stdout=subprocess.DEVNULL, user=account
        )
        server = Postgres(folder, program, account)
        server.start()
        try:
            yield server
        finally:
            server.crash()


@contextmanager
def server_for_tests() -> Iterator[str]:
    """The URL of a server that several tests may use."""
    given = os.environ.get("FETTLE_TEST_POSTGRES")
    if given:
        yield given
        return
    with own_server() as server:
        yield server.url


@contextmanager
def fresh_schema(server: str) -> Iterator[str]:
    """A URL whose tables live in a schema that nobody else uses, empty and dropped in the end."""
    url = make_url(server).set(drivername="postgresql+psycopg")
    name = f"fettle_{uuid.uuid4().hex}"
    engine = connect_engine(url)
    try:
        with engine.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {name}"))
        yield url.update_query_dict({"options": f"-csearch_path={name}"}).render_as_string(hide_password=False)
        with engine.begin() as connection:
            connection.execute(text(f"DROP SCHEMA {name} CASCADE"))
    finally:
        engine.dispose()
