"""Which texts name a store, and what is said when one cannot be opened."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from pathlib import Path

import pytest

from fettle.graph.errors import Conflict, FettleError, InvalidArgument, StoreUnavailable, Unavailable, Unsupported
from fettle.store.jobs import JobState
from fettle.store.open import FILE_NAME, open_store
from fettle.store.sql import schema
from tests.store.samples import ARTIFACT, kernel, spec


@pytest.mark.parametrize("form", ["{0}/a.sqlite3", "sqlite:///{0}/a.sqlite3", "sqlite+pysqlite:///{0}/a.sqlite3"])
def test_file_is_made_and_keeps_what_was_stored(tmp_path: Path, form: str) -> None:
    url = form.format(tmp_path)
    with open_store(url) as store:
        job, _ = store.create_job(spec())
        store.put_artifact(ARTIFACT)
    with open_store(url) as store:
        assert store.get_job(job.id) == job
        assert store.get_artifact(ARTIFACT.sha256) == ARTIFACT
    assert (tmp_path / "a.sqlite3").is_file()
    assert (tmp_path / "artifacts" / ARTIFACT.sha256[:2] / ARTIFACT.sha256).is_file()


def test_folder_holds_a_store_when_empty_or_its_own(tmp_path: Path) -> None:
    for _ in range(2):
        open_store(str(tmp_path)).close()
    assert (tmp_path / FILE_NAME).is_file()


def test_relative_path_follows_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with open_store("odd name?x=1#%41.sqlite3") as store:
        monkeypatch.chdir("/")
        store.create_job(spec())
    assert (tmp_path / "odd name?x=1#%41.sqlite3").is_file()


def test_default_is_the_environment_then_the_users_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FETTLE_STORE", str(tmp_path / "named.sqlite3"))
    open_store().close()
    assert (tmp_path / "named.sqlite3").is_file()
    monkeypatch.delenv("FETTLE_STORE")
    monkeypatch.setattr("fettle.store.open.user_data_path", lambda *_, **__: tmp_path / "deep" / "fettle")
    open_store().close()
    assert (tmp_path / "deep" / "fettle" / FILE_NAME).is_file()


def test_empty_file_becomes_a_store(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with open_store(str(tmp_path / "empty")) as store:
        assert store.stats().jobs == 0


@pytest.mark.parametrize(
    ("url", "error", "says"),
    [
        ("{0}/missing/a.sqlite3", Unavailable, "does not exist"),
        ("sqlite:///{0}/missing/a.sqlite3", Unavailable, "mkdir -p"),
        ("{0}/text", InvalidArgument, "is not a database file"),
        ("{0}/text/a.sqlite3", Unavailable, "does not exist"),
        ("{0}", InvalidArgument, "holds other things"),
        ("/dev/null", InvalidArgument, "not a file"),
        ("sqlite://", InvalidArgument, "names no file"),
        ("sqlite:///:memory:", InvalidArgument, "names no file"),
        ("sqlite:///{0}/a.sqlite3?mode=ro", InvalidArgument, "names no file"),
        ("mysql://root@localhost/x", InvalidArgument, "'mysql'"),
        ("postgresql+psycopg2://localhost/x", InvalidArgument, "postgresql\\+psycopg://"),
        ("://", InvalidArgument, "malformed"),
        ("postgresql+psycopg://me:secret@host:port/x", InvalidArgument, "malformed"),
        ("nul\0byte", InvalidArgument, "cannot be a store"),
        ("{0}/" + "x" * 300, InvalidArgument, "cannot be a store"),
    ],
)
def test_bad_url_is_refused_with_a_hint(tmp_path: Path, url: str, error: type[FettleError], says: str) -> None:
    (tmp_path / "text").write_text("not a database, but long enough to have a header of 100 bytes " * 10)
    with pytest.raises(error, match=says) as raised:
        open_store(url.format(tmp_path))
    assert raised.value.hint
    assert "secret" not in str(raised.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text"]


def test_folder_that_cannot_be_written_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="cannot be"):
        open_store("/proc/fettle.sqlite3")


def _forbid_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a read-only file system: modes alone would not stop a privileged user."""
    monkeypatch.setattr("fettle.store.open.os.access", lambda path, mode: not mode & os.W_OK)


def test_store_that_may_not_be_written_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.sqlite3"
    with open_store(file) as store:
        job, _ = store.create_job(spec())
        store.put_artifact(ARTIFACT)
        store.put_kernel(kernel())
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    _forbid_writing(monkeypatch)
    with open_store(file) as store:
        assert store.get_kernel(kernel().key) == kernel()
        assert store.get_artifact(ARTIFACT.sha256) == ARTIFACT
        with pytest.raises(Unavailable, match="cannot be opened for writing"):
            store.move_job(job.id, [JobState.QUEUED], JobState.RUNNING)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_copy_with_a_log_that_cannot_be_applied_is_refused_and_the_fix_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy.sqlite3"
    with open_store(tmp_path / "a.sqlite3") as store:
        job, _ = store.create_job(spec())
        for ending in ("", "-wal"):
            shutil.copy(tmp_path / f"a.sqlite3{ending}", f"{copy}{ending}")
    with monkeypatch.context() as patch:
        _forbid_writing(patch)
        with pytest.raises(StoreUnavailable, match=r"still in its log copy\.sqlite3-wal.*fettle cache stats --store"):
            open_store(copy)
    open_store(copy).close()
    _forbid_writing(monkeypatch)
    with open_store(copy) as store:
        assert store.get_job(job.id) == job


@pytest.mark.parametrize("place", [3, b"a.sqlite3", ["a.sqlite3"]])
def test_what_names_no_store_is_refused(place: object) -> None:
    with pytest.raises(InvalidArgument, match="a URL or a path, not"):
        open_store(place)  # type: ignore[arg-type]


def test_reader_sees_what_a_writer_elsewhere_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.sqlite3"
    with open_store(file) as writer:
        _forbid_writing(monkeypatch)
        with open_store(file) as reader:
            for seed in range(3):
                job, _ = writer.create_job(spec(seed))
                assert reader.get_job(job.id) == job


def test_folder_that_may_not_be_written_gets_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _forbid_writing(monkeypatch)
    with pytest.raises(Unavailable, match="does not exist, and its folder cannot be written"):
        open_store(tmp_path / "a.sqlite3")
    assert not any(tmp_path.iterdir())


def test_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.setattr("fettle.store.open.find_spec", lambda name: None)
    with pytest.raises(Unsupported, match=r"pip install 'fettle-tuner\[postgres\]'"):
        open_store("postgresql+psycopg://localhost/x")


def test_unreachable_server_is_unavailable_and_its_password_stays_hidden() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(Unavailable, match="cannot be reached") as raised:
        open_store("postgresql+psycopg://me:secret@127.0.0.1:9/x")
    assert "secret" not in str(raised.value)


def test_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "other.sqlite3"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    with pytest.raises(InvalidArgument, match="another program"):
        open_store(str(file))
    with sqlite3.connect(file) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("bookmarks",)]


def _set_revision(file: Path, revision: str) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute(f"UPDATE {schema.VERSION_TABLE} SET version_num = ?", (revision,))


def test_newer_schema_is_unsupported(tmp_path: Path) -> None:
    file = tmp_path / "a.sqlite3"
    open_store(str(file)).close()
    _set_revision(file, "9999")
    with pytest.raises(Unsupported, match="upgrade fettle"):
        open_store(str(file))


def test_older_schema_is_an_error_unless_upgrading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.sqlite3"
    open_store(str(file), upgrade=False).close()
    monkeypatch.setattr(schema, "REVISIONS", ("0000", *schema.REVISIONS))
    _set_revision(file, "0000")
    with pytest.raises(Conflict, match="fettle db upgrade"):
        open_store(str(file), upgrade=False)


def test_sqlite_waits_for_others_and_survives_a_power_cut(tmp_path: Path) -> None:
    with open_store(str(tmp_path / "a.sqlite3")) as store, store._reader.connect() as connection:  # type: ignore[attr-defined]
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert settings == {"journal_mode": "wal", "synchronous": 1, "foreign_keys": 1, "busy_timeout": 30_000}
