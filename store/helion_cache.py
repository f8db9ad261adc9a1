"""The store as the remote cache of Helion's autotuner, so that machines share the configurations one of them found.

Set ``HELION_AUTOTUNE_CACHE=RemoteAutotuneCache`` and
``HELION_REMOTE_CACHE_BACKEND=fettle.store.helion_cache.HelionCache``; FETTLE_STORE says where the store is. Nobody but
Helion imports this module.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from helion.autotuner.remote_cache import RemoteCacheBackend

from fettle.store.shared_files import SharedFiles


class HelionCache(RemoteCacheBackend):  # type: ignore[misc]  # Helion asks for a subclass
    """Configurations as Helion's JSON, in ``helion`` beside the store's artifacts."""

    def __init__(self) -> None:
        self._files = SharedFiles("helion")

    def get(self, key: str) -> str | None:
        """The JSON stored under a key."""
        found = self._files.get(key)
        return None if found is None else found.decode()

    def put(self, key: str, data: str) -> None:
        """Store or replace."""
        self._files.put(key, data.encode())

    def list(self, max_results: int | None = None) -> Iterator[str]:
        """All entries, the newest first: Helion begins searches of new shapes with them."""
        return itertools.islice((content.decode() for content in self._files.newest()), max_results)
