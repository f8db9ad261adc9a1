"""The store behind Triton's own cache."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FETTLE_STORE", str(tmp_path / "fettle.sqlite3"))
    return tmp_path


def test_what_one_machine_compiles_another_finds(store: Path) -> None:
    from fettle.store.triton_cache import TritonCache

    TritonCache("KEY").put("kernel.cubin", b"code")
    assert TritonCache("KEY").get(["kernel.cubin", "kernel.ptx"]) == {"kernel.cubin": b"code"}
    assert TritonCache("OTHER").get(["kernel.cubin"]) == {}


def test_a_damaged_entry_is_missing(store: Path) -> None:
    from fettle.store.triton_cache import TritonCache

    cache = TritonCache("KEY")
    cache.put("../kernel.cubin", b"code")
    (file,) = (path for path in (store / "artifacts" / "triton").rglob("*") if path.is_file())
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert cache.get(["../kernel.cubin"]) == {}


def test_a_folder_that_cannot_be_written_does_not_stop_the_compiler(store: Path) -> None:
    from fettle.store.triton_cache import TritonCache

    (store / "artifacts").write_text("in the way")
    cache = TritonCache("KEY")
    cache.put("kernel.cubin", b"code")
    assert cache.get(["kernel.cubin"]) == {}


def test_triton_takes_it_by_its_name(store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from triton.runtime.cache import RemoteCacheManager

    monkeypatch.setenv("TRITON_REMOTE_CACHE_BACKEND", "fettle.store.triton_cache:TritonCache")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "local"))
    path = RemoteCacheManager("KEY").put(b"code", "kernel.cubin")
    Path(path).unlink()
    found = RemoteCacheManager("KEY").get_file("kernel.cubin")
    assert found is not None
    assert Path(found).read_bytes() == b"code"
