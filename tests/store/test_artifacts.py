"""Artifact files are whole, or their damage is named."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from fettle.backends.api import Artifact
from fettle.graph import codec
from fettle.graph.errors import DataLoss, NotFound, ResourceExhausted, Unavailable
from fettle.store.api import Store
from fettle.store.artifacts import ArtifactFiles
from fettle.store.atomic import write_atomically
from fettle.store.open import open_store
from tests.store.samples import ARTIFACT, kernel, record, spec


def _file(root: Path) -> Path:
    return root / "artifacts" / ARTIFACT.sha256[:2] / ARTIFACT.sha256


def test_others_may_read_a_file_as_far_as_the_umask_lets_them(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    with open_store(str(tmp_path / "a.sqlite3")) as store:
        store.put_artifact(ARTIFACT)
    assert _file(tmp_path).stat().st_mode == plain.stat().st_mode


def test_file_holds_the_canonical_bytes(tmp_path: Path) -> None:
    with open_store(str(tmp_path / "a.sqlite3")) as store:
        store.put_artifact(ARTIFACT)
        assert _file(tmp_path).read_bytes() == codec.dumps(ARTIFACT)
        assert store.stats().artifact_bytes == _file(tmp_path).stat().st_size


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:100] + b"?" + path.read_bytes()[101:]),
        lambda path: path.unlink(),
    ],
    ids=["truncated", "empty", "one byte", "gone"],
)
def test_damaged_file_is_data_loss_until_built_again(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    with open_store(str(tmp_path / "a.sqlite3")) as store:
        store.put_artifact(ARTIFACT)
        damage(_file(tmp_path))
        with pytest.raises(DataLoss, match="fettle tune") as raised:
            store.get_artifact(ARTIFACT.sha256)
        assert raised.value.details["file"] == str(_file(tmp_path))
        store.put_artifact(ARTIFACT)
        assert store.get_artifact(ARTIFACT.sha256) == ARTIFACT


def test_right_hash_of_something_else_is_data_loss(tmp_path: Path) -> None:
    files = ArtifactFiles(tmp_path)
    data = codec.dumps("no artifact")
    sha256 = hashlib.sha256(data).hexdigest()
    files.path(sha256).parent.mkdir()
    files.path(sha256).write_bytes(data)
    with pytest.raises(DataLoss, match="holds no artifact"):
        files.read(sha256)


def test_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with open_store(str(tmp_path / "a.sqlite3")) as store:
        with monkeypatch.context() as patch:
            patch.setattr("fettle.store.atomic.os.fsync", full)
            with pytest.raises(ResourceExhausted, match="no space left"):
                store.put_artifact(ARTIFACT)
        assert [path for path in (tmp_path / "artifacts").rglob("*") if path.is_file()] == []
        with pytest.raises(NotFound):
            store.get_artifact(ARTIFACT.sha256)
        store.put_artifact(ARTIFACT)
        assert store.get_artifact(ARTIFACT.sha256) == ARTIFACT


def test_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "file"
    write_atomically(target, b"old")

    def broken(source: str, destination: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("fettle.store.atomic.os.replace", broken)
    with pytest.raises(OSError, match="Errno 5"):
        write_atomically(target, b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"old")]


def test_folder_that_is_a_file_is_unavailable(tmp_path: Path) -> None:
    with open_store(str(tmp_path / "a.sqlite3")) as store:
        (tmp_path / "artifacts").touch()
        with pytest.raises(Unavailable):
            store.put_artifact(ARTIFACT)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB, where mounting one is allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount or "", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system is not allowed")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def _fill_up(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)) == 4096:
            pass


def _add_until_full(store: Store, job_id: str) -> int:
    """How many records the job has when the next one no longer fits."""
    for tile in range(2, 500):
        try:
            store.add_record(job_id, record(tile))
        except ResourceExhausted:
            return tile - 1
    raise AssertionError("the disk never filled up")


def test_store_on_a_full_disk_says_so_and_works_again_with_space(tiny_disk: Path) -> None:
    ballast = tiny_disk / "ballast"
    with open_store(str(tiny_disk / "a.sqlite3")) as store:
        job, _ = store.create_job(spec())
        store.add_record(job.id, record(1))
        _fill_up(ballast)
        big = attrs.evolve(ARTIFACT, payload=bytes(100_000))
        with pytest.raises(ResourceExhausted):
            store.put_artifact(big)
        stored = _add_until_full(store, job.id)
        found = store.get_job(job.id)
        assert found.trials == stored == len(store.records())
        assert not list((tiny_disk / "artifacts").rglob(".new-*"))
        ballast.unlink()
        store.put_artifact(big)
        store.put_kernel(kernel(artifact_sha256=big.sha256))
        store.add_record(job.id, record(1000))
        assert store.get_job(job.id).trials == stored + 1
        assert isinstance(store.get_artifact(big.sha256), Artifact)
