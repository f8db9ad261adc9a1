"""Files that other tools' caches keep beside the store's artifacts: checked, shared by whoever shares the store."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

from fettle.store.atomic import write_atomically
from fettle.store.open import artifact_folder

_log = logging.getLogger("fettle.store")

_HASH_BYTES = 32


class SharedFiles:
    """A folder beside the artifacts; a file is the SHA-256 of its content, then the content.

    A cache must not stop a compiler: what cannot be read, or is damaged, is missing; what cannot be written is logged.
    """

    def __init__(self, name: str) -> None:
        self._folder = artifact_folder() / name

    def get(self, key: str) -> bytes | None:
        """The content stored under a key, if it is there and whole."""
        return _read(self._path(key))

    def put(self, key: str, content: bytes) -> None:
        """Store or replace."""
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, hashlib.sha256(content).digest() + content)
        except OSError as error:
            _log.warning("cache entry %s cannot be written: %s", path, error)

    def newest(self) -> Iterator[bytes]:
        """All contents, the newest first."""
        dated = []
        for path in self._folder.glob("??/*"):
            try:
                dated.append((path.stat().st_mtime, path))
            except OSError:  # somebody replaces it
                continue
        for _, path in sorted(dated, reverse=True):
            if (content := _read(path)) is not None:
                yield content

    def _path(self, key: str) -> Path:
        name = hashlib.sha256(key.encode()).hexdigest()
        return self._folder / name[:2] / name


def _read(path: Path) -> bytes | None:
    try:
        stored = path.read_bytes()
    except OSError:
        return None
    digest, content = stored[:_HASH_BYTES], stored[_HASH_BYTES:]
    return content if hashlib.sha256(content).digest() == digest else None
