"""Plain data of events, and text that every database can hold."""

from __future__ import annotations

import json
import re
from typing import Any

from fettle.graph.errors import InvalidArgument

_KEY = re.compile("[0-9a-f]{64}")

MAX_INTEGER = 2**31 - 1
"""Largest number of a row or event; more cannot be asked for."""


def to_json(data: Any) -> str:
    """JSON text of plain data: keys sorted, ASCII only; floats read back bit for bit, infinities included.

    Raises:
        InvalidArgument: something in it is no plain value.
    """
    try:
        return json.dumps(data, sort_keys=True, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"not plain data: {error}") from error


def from_json(text: str) -> Any:
    """Inverse of :func:`to_json`; sequences come back as lists.

    Raises:
        InvalidArgument: not JSON.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidArgument(f"malformed JSON: {error}") from error


def clean(text: str) -> str:
    """``text`` with what databases refuse (NUL, lone surrogates of undecodable output) shown as ``\\ufffd``."""
    return text.encode(errors="surrogatepass").decode(errors="replace").replace("\0", "\ufffd")


def check_key(key: str) -> str:
    """A 256-bit key in hexadecimal.

    Raises:
        InvalidArgument: it is none.
    """
    if not _KEY.fullmatch(key):
        raise InvalidArgument(f"{key[:80]!r} is no 256-bit key in hexadecimal")
    return key


def check_limit(limit: int) -> int:
    """A limit that every database takes.

    Raises:
        InvalidArgument: below one.
    """
    if limit < 1:
        raise InvalidArgument(f"limit {limit} is not at least 1")
    return min(limit, MAX_INTEGER)
