"""Page tokens: opaque to clients; they name the last job seen, so jobs added later cannot shift a page."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

from fettle.graph import codec
from fettle.graph.errors import InvalidArgument
from fettle.store.jobs import JobState

MAX_PAGE = 1000


def page_limit(page_size: int) -> int:
    """How many jobs a page holds: ``page_size``, at most 1000.

    Raises:
        InvalidArgument: a size below one.
    """
    if page_size < 1:
        raise InvalidArgument(f"page size {page_size} is not at least 1")
    return min(page_size, MAX_PAGE)


def write_token(last_id: str, states: Sequence[JobState]) -> str:
    """The token of the page behind the job ``last_id`` in a listing of ``states``."""
    return base64.urlsafe_b64encode(codec.encode(("page", last_id, _names(states)))).decode().rstrip("=")


def read_token(token: str, states: Sequence[JobState]) -> str:
    """The id a token names; empty for the empty token.

    Raises:
        InvalidArgument: no token of ours, or one of a listing of other states.
    """
    if not token:
        return ""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        kind, last_id, names = codec.decode(raw)
    except (binascii.Error, InvalidArgument, TypeError, ValueError):
        kind, last_id, names = "", "", ()
    if kind != "page" or not isinstance(last_id, str):
        raise InvalidArgument("malformed page token", hint="use next_token of the page before, unchanged")
    if names != _names(states):
        raise InvalidArgument(
            "the page token belongs to a listing of other states", hint="repeat the states of the first page"
        )
    return last_id


def _names(states: Sequence[JobState]) -> tuple[str, ...]:
    return tuple(sorted({state.value for state in states}))
