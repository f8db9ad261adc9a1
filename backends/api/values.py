"""What fields hold: plain values, and mappings as sorted pairs, so that equal mappings have equal keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Value = int | float | str | bool
"""What a schedule's parameter, or a fact of a device, may be."""

Pairs = tuple[tuple[str, Value], ...]


def sorted_pairs(values: Mapping[str, Value] | Sequence[Sequence[Any]]) -> Pairs:
    """The pairs of a mapping, or pairs as they are, sorted by name."""
    items = values.items() if isinstance(values, Mapping) else ((name, value) for name, value in values)
    return tuple(sorted((str(name), value) for name, value in items))


def strings(values: Iterable[str]) -> tuple[str, ...]:
    """Any strings as a tuple: a converter that type checkers understand, as they do not ``tuple``."""
    return tuple(values)
