"""The store as the back end of Triton's own cache, so that machines share what one of them has compiled.

Set ``TRITON_CACHE_MANAGER=triton.runtime.cache:RemoteCacheManager`` and
``TRITON_REMOTE_CACHE_BACKEND=fettle.store.triton_cache:TritonCache``; FETTLE_STORE says where the store is. Triton's
keys hash its compiler, so entries of different versions never meet. Nobody but Triton imports this module.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

from triton.runtime.cache import RemoteCacheBackend

from fettle.store.artifacts import write_atomically
from fettle.store.open import artifact_folder

_log = logging.getLogger("fettle.store")

_HASH_BYTES = 32


class TritonCache(RemoteCacheBackend):  # type: ignore[misc]  # Triton has no types, and asks for a subclass
    """Files of one of Triton's keys, in ``triton`` beside the store's artifacts: their SHA-256, then their bytes.

    A cache must not stop a compiler: what cannot be read, or is damaged, is missing; what cannot be written is logged.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        self._folder = artifact_folder() / "triton"

    def get(self, filenames: Sequence[str]) -> dict[str, bytes]:
        """Those of the files that are there and whole."""
        found = {name: self._read(self._path(name)) for name in filenames}
        return {name: data for name, data in found.items() if data is not None}

    def put(self, filename: str, data: bytes) -> None:
        """Store or replace one file."""
        path = self._path(filename)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, hashlib.sha256(data).digest() + data)
        except OSError as error:
            _log.warning("Triton's cache entry %s cannot be written: %s", path, error)

    def _path(self, filename: str) -> Path:
        name = hashlib.sha256(f"{self._key}\0{filename}".encode()).hexdigest()
        return self._folder / name[:2] / name

    def _read(self, path: Path) -> bytes | None:
        try:
            stored = path.read_bytes()
        except OSError:
            return None
        digest, data = stored[:_HASH_BYTES], stored[_HASH_BYTES:]
        return data if hashlib.sha256(data).digest() == digest else None
