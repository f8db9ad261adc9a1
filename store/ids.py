"""Job ids: 13 characters that sort by creation, everywhere text is compared byte by byte."""

from __future__ import annotations

import secrets

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # base 32 without i, l, o, u: ascending, easy to read aloud
_LENGTH = 13
_RANDOM_BITS = 20


def next_id(seconds: float, after: str = "") -> str:
    """An id for a job created at ``seconds`` (Unix time) that sorts behind ``after``, the newest id so far.

    45 bits of milliseconds, then 20 random bits. If the clock stepped back or two jobs share a millisecond,
    the id is a random step above ``after`` instead, so the order of ids is always the order of creation.
    """
    value = int(seconds * 1000) << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
    if after:
        value = max(value, _number(after) + 1 + secrets.randbits(10))
    return "".join(_ALPHABET[value >> 5 * place & 31] for place in reversed(range(_LENGTH)))


def _number(text: str) -> int:
    value = 0
    for character in text:
        value = value << 5 | _ALPHABET.index(character)
    return value
