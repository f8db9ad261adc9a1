"""Copies of a store in use."""

from __future__ import annotations

from pathlib import Path

import pytest

from fettle.graph.errors import Conflict, InvalidArgument, StoreUnavailable, Unsupported
from fettle.store.backup import back_up
from fettle.store.open import open_store
from tests.store.samples import ARTIFACT, kernel, record, spec


def test_copy_of_a_store_in_use_is_whole_and_can_be_read_where_nothing_may_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, folder = tmp_path / "a.sqlite3", tmp_path / "copies" / "monday"
    with open_store(file) as store:
        job, _ = store.create_job(spec())
        store.add_record(job.id, record())
        store.put_artifact(ARTIFACT)
        store.put_kernel(kernel())
        back_up(str(file), folder)
        store.request_cancel(job.id)
    monkeypatch.setattr("fettle.store.open.os.access", lambda path, mode: False)
    with open_store(folder) as copy:
        assert copy.get_job(job.id).trials == 1
        assert copy.list_jobs().jobs == (copy.get_job(job.id),)
        assert not copy.get_job(job.id).state.is_final
        assert copy.get_kernel(kernel().key) == kernel()
        assert copy.get_artifact(ARTIFACT.sha256) == ARTIFACT


def test_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    open_store(tmp_path / "a.sqlite3").close()
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(Conflict, match="not empty"):
        back_up(str(tmp_path / "a.sqlite3"), tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_what_cannot_be_copied_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidArgument, match="no store at"):
        back_up(str(tmp_path / "missing.sqlite3"), tmp_path / "copy")
    (tmp_path / "text.sqlite3").write_text("this is no database, but a text that is long enough to be read as one")
    with pytest.raises(StoreUnavailable, match="restore an earlier copy"):
        back_up(str(tmp_path / "text.sqlite3"), tmp_path / "copy")
    monkeypatch.setattr("fettle.store.open.find_spec", lambda name: name)
    with pytest.raises(Unsupported, match="pg_dump"):
        back_up("postgresql://localhost/x", tmp_path / "other")
