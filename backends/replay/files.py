"""Recordings on disk: gzip or plain JSON, of a known format and a bearable size."""

from __future__ import annotations

import gzip
import hashlib
import json
import stat
import zlib
from pathlib import Path
from typing import Any

from fettle.backends.replay.document import Node
from fettle.backends.replay.kerneltuner import read_cache
from fettle.backends.replay.recording import Recording
from fettle.backends.replay.t4 import read_t4
from fettle.graph.errors import InvalidArgument, NotFound, ResourceExhausted

MAX_BYTES = 256 * 1024 * 1024
"""Largest file, unpacked. Python's objects take some five times that."""


def read_recording(path: Path) -> Recording:
    """The recording in a FAIR T4 or Kernel Tuner cache file.

    Raises:
        NotFound: there is no such file, or it cannot be read.
        InvalidArgument: it is no such file; the message says what is wrong, and where.
        ResourceExhausted: it is larger than :data:`MAX_BYTES`.
    """
    try:
        return parse_recording(_read(path))
    except (InvalidArgument, ResourceExhausted) as error:
        raise type(error)(f"{path}: {error.message}", hint=error.hint, details=error.details) from None


def parse_recording(data: bytes) -> Recording:
    """The recording in the bytes of a file; see :func:`read_recording`."""
    if data[:2] == b"\x1f\x8b":
        data = _unpack(data)
    document = Node(_parse(data))
    digest = hashlib.sha256(data).hexdigest()
    members = document.object()
    version = document.optional("schema_version")
    if version is not None and version.text().split(".")[0] != "1":
        raise version.error(f"schema version {version.text()[:64]!r} is not 1.x")
    if "results" in members:
        return read_t4(document, digest)
    if "cache" in members:
        return read_cache(document, digest)
    raise document.error("neither 'results' (FAIR T4) nor 'cache' (Kernel Tuner) is there")


def write_document(path: Path, document: dict[str, Any]) -> None:
    """Write plain data as JSON; gzip if the name ends in ``.gz``. Equal data give equal bytes.

    Raises:
        NotFound: the folder does not exist, or cannot be written to.
    """
    data = json.dumps(document, indent=1, allow_nan=False).encode()
    try:
        path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    except OSError as error:
        raise NotFound(f"{path} cannot be written: {error.strerror}") from error


def _read(path: Path) -> bytes:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise NotFound(f"{path} is not a file")
        if found.st_size > MAX_BYTES:
            raise _too_large()
        return path.read_bytes()
    except OSError as error:
        raise NotFound(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # a NUL in the path
        raise NotFound(f"{str(path)!r} cannot be read: {error}") from error


def _too_large() -> ResourceExhausted:
    return ResourceExhausted(f"larger than {MAX_BYTES} bytes (unpacked)")


def _unpack(data: bytes) -> bytes:
    """Gzip members, one or several. A few kilobytes may unpack to gigabytes, so no more than the limit is made."""
    parts: list[bytes] = []
    left = MAX_BYTES + 1
    at = 0
    while at < len(data) and any(data[at:]):  # zeros behind the last member are padding
        member = zlib.decompressobj(wbits=31)
        try:
            parts.append(member.decompress(data[at:], left))
        except zlib.error as error:
            raise InvalidArgument(
                f"damaged gzip data in the member at byte {at}: {error}", details={"position": str(at)}
            ) from None
        left -= len(parts[-1])
        if left <= 0:
            raise _too_large()
        if not member.eof:
            raise InvalidArgument(f"gzip data end early, at byte {len(data)}", details={"position": str(len(data))})
        at = len(data) - len(member.unused_data)
    return b"".join(parts)


def _parse(data: bytes) -> Any:
    if len(data) > MAX_BYTES:
        raise _too_large()
    text = ""
    try:
        text = data.decode("utf-8-sig")
        return json.loads(text)
    except UnicodeDecodeError as error:
        raise InvalidArgument(
            f"not UTF-8 at byte {error.start}: {error.reason}", details={"position": str(error.start)}
        ) from None
    except json.JSONDecodeError as error:
        raise InvalidArgument(
            f"malformed JSON at line {error.lineno} column {error.colno}: {error.msg}",
            hint="a Kernel Tuner run that is not finished leaves its cache file open; close it with }}"
            if '"tune_params_keys"' in text and error.pos >= len(text.rstrip())
            else "",
            details={"line": str(error.lineno), "column": str(error.colno)},
        ) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; arrays nested too deeply
        raise InvalidArgument(f"malformed JSON: {error}") from None
