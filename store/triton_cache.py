"""The store as the back end of Triton's own cache, so that machines share what one of them has compiled.

Set ``TRITON_CACHE_MANAGER=triton.runtime.cache:RemoteCacheManager`` and
``TRITON_REMOTE_CACHE_BACKEND=fettle.store.triton_cache:TritonCache``; FETTLE_STORE says where the store is. Triton's
keys hash its compiler, so entries of different versions never meet. Nobody but Triton imports this module.
"""

from __future__ import annotations

from collections.abc import Sequence

from triton.runtime.cache import RemoteCacheBackend

from fettle.store.shared_files import SharedFiles


class TritonCache(RemoteCacheBackend):  # type: ignore[misc]  # Triton has no types, and asks for a subclass
    """Files of one of Triton's keys, in ``triton`` beside the store's artifacts."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._files = SharedFiles("triton")

    def get(self, filenames: Sequence[str]) -> dict[str, bytes]:
        """Those of the files that are there and whole."""
        found = {name: self._files.get(f"{self._key}\0{name}") for name in filenames}
        return {name: data for name, data in found.items() if data is not None}

    def put(self, filename: str, data: bytes) -> None:
        """Store or replace one file."""
        self._files.put(f"{self._key}\0{filename}", data)
