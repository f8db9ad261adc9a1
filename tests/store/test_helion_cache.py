"""The store behind Helion's autotuner: its base class is a stand-in where Helion is not installed."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("FETTLE_STORE", str(tmp_path / "fettle.sqlite3"))
    if importlib.util.find_spec("helion") is None:
        for name in ("helion", "helion.autotuner", "helion.autotuner.remote_cache"):
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
        monkeypatch.setattr(sys.modules["helion.autotuner.remote_cache"], "RemoteCacheBackend", object, raising=False)
    monkeypatch.delitem(sys.modules, "fettle.store.helion_cache", raising=False)
    return importlib.import_module("fettle.store.helion_cache").HelionCache


def test_what_one_machine_finds_another_gets(cache: Any) -> None:
    cache().put("KEY", '{"config": "{}"}')
    assert cache().get("KEY") == '{"config": "{}"}'
    assert cache().get("OTHER") is None


def test_the_newest_come_first(cache: Any, tmp_path: Path) -> None:
    for age, key in enumerate("abc"):
        cache().put(key, key)
        (path,) = [p for p in (tmp_path / "artifacts" / "helion").glob("??/*") if p.read_bytes().endswith(key.encode())]
        os.utime(path, (1000 - age, 1000 - age))
    assert list(cache().list(2)) == ["a", "b"]
    assert list(cache().list()) == ["a", "b", "c"]


def test_a_damaged_entry_is_missing(cache: Any, tmp_path: Path) -> None:
    cache().put("KEY", "value")
    (file,) = (tmp_path / "artifacts" / "helion").glob("??/*")
    file.write_bytes(b"short")
    assert cache().get("KEY") is None
    assert list(cache().list()) == []
