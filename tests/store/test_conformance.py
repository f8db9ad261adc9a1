"""Every Store passes the same suite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fettle.store.api import Store
from fettle.store.memory import MemoryStore
from fettle.store.open import open_store
from tests.store.conformance import StoreConformance


class TestMemory(StoreConformance):
    @pytest.fixture
    def store(self) -> Store:
        return MemoryStore()


class TestSqliteFile(StoreConformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        with open_store(str(tmp_path / "store.sqlite3")) as store:
            yield store
