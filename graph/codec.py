"""The one canonical encoding: equal values give equal bytes, on every machine and version.

Keys are SHA-256 over these bytes; worker pipes and artifact headers carry them. It is deliberately
not protobuf (whose bytes are not canonical) and not pickle (which runs code).

Grammar (a value is one tag byte and its body)::

    n                 None            t / f             True / False
    i<decimal>;       integer         d<8 bytes>        float, IEEE 754 big-endian
    s<len>:<utf-8>    text            b<len>:<bytes>    bytes
    l<count>:<value>* list            m<count>:(<s…><value>)*  mapping, keys strictly ascending
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Mapping
from typing import Any, TypeVar

import cattrs
from cattrs.strategies import configure_union_passthrough

from fettle.graph.errors import InvalidArgument

T = TypeVar("T")

_NAN = struct.pack(">d", float("nan"))
_MAX_DEPTH = 64
_MAX_DIGITS = 4096
"""Python refuses to convert longer decimals."""

converter = cattrs.Converter(forbid_extra_keys=False)
configure_union_passthrough(int | float | str | bool | bytes | None, converter)


def encode(value: Any) -> bytes:
    """Canonical bytes of a plain value (None, bool, int, float, str, bytes, sequences, str-keyed mappings)."""
    parts: list[bytes] = []
    _encode(value, parts)
    return b"".join(parts)


def _encode(value: Any, parts: list[bytes]) -> None:
    if value is None:
        parts.append(b"n")
    elif value is True:
        parts.append(b"t")
    elif value is False:
        parts.append(b"f")
    elif isinstance(value, int):
        parts.append(b"i%d;" % value)
    elif isinstance(value, float):
        parts.append(b"d" + (_NAN if math.isnan(value) else struct.pack(">d", value)))
    elif isinstance(value, str):
        raw = value.encode()
        parts.append(b"s%d:" % len(raw) + raw)
    elif isinstance(value, bytes | bytearray | memoryview):
        parts.append(b"b%d:" % len(value))
        parts.append(bytes(value))
    elif isinstance(value, list | tuple):
        parts.append(b"l%d:" % len(value))
        for item in value:
            _encode(item, parts)
    elif isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("keys of a mapping must be text")
        parts.append(b"m%d:" % len(value))
        for key in sorted(value, key=lambda k: k.encode()):
            _encode(key, parts)
            _encode(value[key], parts)
    else:
        raise TypeError(f"no canonical encoding for {type(value).__name__}")


def decode(data: bytes) -> Any:
    """Inverse of :func:`encode`; sequences come back as tuples.

    Raises:
        InvalidArgument: the bytes are not the canonical encoding of any value (the position is named).
    """
    value, end = _decode(data, 0, 0)
    if end != len(data):
        raise _malformed(end, "bytes after the value")
    return value


def _malformed(at: int, what: str) -> InvalidArgument:
    return InvalidArgument(f"malformed canonical encoding at byte {at}: {what}", details={"position": str(at)})


# Each of these reads one part at a position, and returns its value and the position behind it.


def _number(data: bytes, at: int, end: bytes) -> tuple[int, int]:
    stop = data.find(end, at)
    text = data[at:stop] if stop >= 0 else b""
    if not text or (text.lstrip(b"-") != b"0" and text.lstrip(b"-")[:1] == b"0") or text == b"-0":
        raise _malformed(at, "bad number")
    digits = text[1:] if text[:1] == b"-" else text
    if not digits.isdigit() or len(digits) > _MAX_DIGITS:
        raise _malformed(at, "bad number")
    return int(text), stop + 1


def _length(data: bytes, at: int) -> tuple[int, int]:
    count, start = _number(data, at, b":")
    if count < 0 or count > len(data) - start:
        raise _malformed(at, "length runs past the end")
    return count, start


def _decode(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    if depth > _MAX_DEPTH:
        raise _malformed(at, "nested too deeply")
    tag, at = data[at : at + 1], at + 1
    if tag == b"n":
        return None, at
    if tag in (b"t", b"f"):
        return tag == b"t", at
    if tag == b"i":
        return _number(data, at, b";")
    if tag == b"d":
        return _float(data, at)
    if tag in (b"s", b"b"):
        length, start = _length(data, at)
        raw = data[start : start + length]
        return (raw if tag == b"b" else _text(raw, start)), start + length
    if tag == b"l":
        return _sequence(data, at, depth)
    if tag == b"m":
        return _mapping(data, at, depth)
    raise _malformed(at - 1, f"unknown tag {tag!r}")


def _float(data: bytes, at: int) -> tuple[float, int]:
    raw = data[at : at + 8]
    if len(raw) < 8:
        raise _malformed(at, "truncated float")
    number: float = struct.unpack(">d", raw)[0]
    if math.isnan(number) and raw != _NAN:
        raise _malformed(at, "NaN with a payload")
    return number, at + 8


def _text(raw: bytes, at: int) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise _malformed(at, "text is not UTF-8") from None


def _sequence(data: bytes, at: int, depth: int) -> tuple[tuple[Any, ...], int]:
    count, at = _length(data, at)
    items = []
    for _ in range(count):
        item, at = _decode(data, at, depth + 1)
        items.append(item)
    return tuple(items), at


def _mapping(data: bytes, at: int, depth: int) -> tuple[dict[str, Any], int]:
    count, at = _length(data, at)
    mapping: dict[str, Any] = {}
    last: bytes | None = None
    for _ in range(count):
        where = at
        key, at = _decode(data, at, depth + 1)
        if not isinstance(key, str) or (last is not None and key.encode() <= last):
            raise _malformed(where, "mapping keys must be text in ascending order")
        last = key.encode()
        mapping[key], at = _decode(data, at, depth + 1)
    return mapping, at


def dumps(value: Any) -> bytes:
    """Canonical bytes of an attrs value (or a plain one)."""
    return encode(converter.unstructure(value))


def loads(cls: type[T], data: bytes) -> T:
    """The attrs value of class ``cls`` that :func:`dumps` wrote.

    Raises:
        InvalidArgument: malformed bytes, or bytes of another class.
    """
    return from_data(cls, decode(data))


def to_data(value: Any) -> Any:
    """Plain (JSON-like) form of an attrs value."""
    return converter.unstructure(value)


def from_data(cls: type[T], data: Any) -> T:
    """Inverse of :func:`to_data`.

    Raises:
        InvalidArgument: ``data`` does not have the fields of ``cls``.
    """
    try:
        return converter.structure(data, cls)
    except (cattrs.BaseValidationError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise InvalidArgument(f"not a {cls.__name__}: {'; '.join(cattrs.transform_error(error))}") from error


def digest(value: Any) -> str:
    """256-bit key of a value: SHA-256 over its canonical bytes, in hexadecimal."""
    return hashlib.sha256(dumps(value)).hexdigest()
