"""Buffers, their text form, and how much memory they need."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence

import attrs

from fettle.graph.errors import InvalidArgument

COLUMNS = ("id", "lower", "upper", "size")
MAX_BUFFERS = 20_000
_LARGEST = 1 << 50
"""Bytes and times above this would leave no room for their sums in 64 bits."""


@attrs.frozen
class Buffer:
    """One tensor: ``size`` bytes that live in the half-open time interval ``[lower, upper)``."""

    id: str
    lower: int
    upper: int
    size: int


def read_buffers(lines: Iterable[str], source: str) -> tuple[Buffer, ...]:
    """Buffers of a CSV text with the header ``id,lower,upper,size`` (columns in any order).

    Args:
        source: its name in error messages.

    Raises:
        InvalidArgument: with the line: a missing or unknown column, a field that is no whole number, an empty
            lifetime, a size below 1, a repeated id; no buffer at all, or too many.
    """
    rows = csv.reader(lines, strict=True)
    buffers: dict[str, Buffer] = {}
    try:
        header = [name.strip() for name in next(rows, [])]
        if sorted(header) != sorted(COLUMNS):
            raise _bad(source, 1, f"the header is {','.join(header) or 'missing'}")
        for row in rows:
            if not row:
                continue
            if len(row) != len(COLUMNS):
                raise _bad(source, rows.line_num, f"{len(row)} fields instead of {len(COLUMNS)}")
            buffer = _buffer(dict(zip(header, row, strict=True)), source, rows.line_num)
            if buffer.id in buffers:
                raise _bad(source, rows.line_num, f"id {buffer.id!r} is used twice")
            if len(buffers) == MAX_BUFFERS:
                raise _bad(source, rows.line_num, f"more than {MAX_BUFFERS} buffers")
            buffers[buffer.id] = buffer
    except csv.Error as error:
        raise _bad(source, rows.line_num, str(error)) from None
    if not buffers:
        raise InvalidArgument(f"{source} has no buffers", hint="one a line, below the header id,lower,upper,size")
    return tuple(buffers.values())


def _buffer(fields: Mapping[str, str], source: str, line: int) -> Buffer:
    numbers = {}
    for name in COLUMNS[1:]:
        text = fields[name].strip()
        if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= _LARGEST):
            raise _bad(source, line, f"{name} is {text[:40]!r}, not a whole number up to {_LARGEST}")
        numbers[name] = int(text)
    buffer = Buffer(fields["id"].strip(), **numbers)
    if not buffer.id:
        raise _bad(source, line, "the id is empty")
    if buffer.lower >= buffer.upper:
        raise _bad(source, line, f"the lifetime [{buffer.lower}, {buffer.upper}) is empty")
    if buffer.size < 1:
        raise _bad(source, line, "the size is 0")
    return buffer


def _bad(source: str, line: int, what: str) -> InvalidArgument:
    return InvalidArgument(
        f"{source}, line {line}: {what}",
        hint="a line is id,lower,upper,size: a name, and whole numbers with lower < upper and size > 0",
        details={"line": str(line)},
    )


def lower_bound(buffers: Sequence[Buffer]) -> int:
    """Bytes that live at the same time, at most: no plan's peak is lower."""
    changes = [(b.lower, b.size) for b in buffers] + [(b.upper, -b.size) for b in buffers]
    most = live = 0
    for _, change in sorted(changes):  # at one time, what ends comes first: its change is negative
        live += change
        most = max(most, live)
    return most


def peak(buffers: Sequence[Buffer], offsets: Mapping[str, int]) -> int:
    """Bytes an arena needs for a plan."""
    return max((offsets[b.id] + b.size for b in buffers), default=0)
