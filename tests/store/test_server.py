"""The suite on a PostgreSQL server, whose URL is in TEST_DB_URL."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from fettle.store.api import Store
from fettle.store.open import open_store
from tests.store.conformance import StoreConformance

if not os.environ.get("TEST_DB_URL"):
    pytest.skip("TEST_DB_URL names no server", allow_module_level=True)


class TestServer(StoreConformance):
    @pytest.fixture
    def store(self, server_url: str) -> Iterator[Store]:
        with open_store(server_url) as store:
            yield store
