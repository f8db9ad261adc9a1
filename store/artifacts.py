"""Artifacts as files named by their content: ``artifacts/ab/abcd…`` holds ``codec.dumps(artifact)``."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from fettle.backends.api import Artifact
from fettle.graph import codec
from fettle.graph.errors import DataLoss, InvalidArgument, StoreFull, StoreUnavailable
from fettle.store.atomic import write_atomically
from fettle.store.encoding import check_key
from fettle.store.missing import no_artifact

_SHA256 = re.compile(r"[0-9a-f]{64}")


class ArtifactFiles:
    """A folder of artifacts. Safe for several processes: a file appears whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, sha256: str) -> Path:
        """Where the artifact of that hash lies.

        Raises:
            NotFound: the text is no hash.
        """
        if not _SHA256.fullmatch(sha256):
            raise no_artifact(sha256)
        return self.folder / sha256[:2] / sha256

    def write(self, artifact: Artifact) -> tuple[str, int]:
        """Store an artifact and return its sha256 and size in bytes. A damaged file of that name is replaced.

        Raises:
            StoreFull: the disk is full.
            StoreUnavailable: the folder cannot be written.
        """
        data = codec.dumps(artifact)
        sha256 = hashlib.sha256(data).hexdigest()
        path = self.path(sha256)
        with _writing(path):
            if not _holds(path, data):
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, data)
        return sha256, len(data)

    def remove(self, sha256: str) -> None:
        """Remove a file, if it is there. Raises StoreUnavailable if it cannot be."""
        path = self.path(sha256)
        with _writing(path):
            path.unlink(missing_ok=True)

    def read(self, sha256: str) -> Artifact:
        """The artifact of a hash that was stored.

        Raises:
            NotFound: the text is no hash.
            DataLoss: the file is missing, truncated or altered.
            StoreUnavailable: it cannot be read.
        """
        path = self.path(sha256)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise _lost(path, sha256, "is missing") from None
        except OSError as error:
            raise StoreUnavailable(f"artifact {path} cannot be read: {error}") from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise _lost(path, sha256, "does not have the content it was stored with")
        try:
            return codec.loads(Artifact, data)
        except InvalidArgument as error:
            raise _lost(path, sha256, f"holds no artifact ({error.message})") from error


class ModelFiles:
    """Cost models as files named by their key."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, key: str, data: bytes) -> None:
        """Keep or replace a model. Raises as :meth:`ArtifactFiles.write`; InvalidArgument for a key that is none."""
        path = self._folder / check_key(key)
        with _writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, data)

    def read(self, key: str) -> bytes | None:
        """The model of a key, or None.

        Raises:
            InvalidArgument: the key is none.
            StoreUnavailable: the file cannot be read.
        """
        path = self._folder / check_key(key)
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreUnavailable(f"{path} cannot be read: {error}") from error


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFull(
                f"no space left for {path}", hint="free some space; nothing was left half written"
            ) from error
        raise StoreUnavailable(
            f"{path} cannot be written: {error}", hint="check that the folder is writable"
        ) from error


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.read_bytes() == data
    except FileNotFoundError:
        return False


def _lost(path: Path, sha256: str, what: str) -> DataLoss:
    return DataLoss(
        f"artifact file {path} {what}",
        hint="build the kernel again: fettle tune",
        details={"file": str(path), "sha256": sha256},
    )
