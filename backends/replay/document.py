"""A parsed JSON document whose parts know where they stand, so that every complaint names the place."""

from __future__ import annotations

import math
from typing import Any

import attrs

from fettle.graph.errors import InvalidArgument

_KINDS = {dict: "an object", list: "an array", str: "a text", bool: "a truth value", type(None): "null"}


@attrs.frozen
class Node:
    """One value of a document.

    Attributes:
        value: the plain value.
        path: where it stands: ``results[17].measurements[0].value``; empty for the whole document.
    """

    value: Any
    path: str = ""

    @property
    def kind(self) -> str:
        """What it is, for people."""
        return _KINDS.get(type(self.value), "a number")

    def error(self, message: str) -> InvalidArgument:
        """An error about this value, to be raised."""
        place = self.path or "the document"
        return InvalidArgument(f"{place}: {message}", details={"path": self.path})

    def object(self) -> dict[str, Any]:
        """It as an object."""
        if not isinstance(self.value, dict):
            raise self.error(f"must be an object, not {self.kind}")
        return self.value

    def field(self, name: str) -> Node:
        """A member of this object; raises InvalidArgument if it lacks."""
        members = self.object()
        if name not in members:
            raise self.error(f"the key {name[:64]!r} is missing")
        return Node(members[name], f"{self.path}.{name}" if self.path else name)

    def optional(self, name: str) -> Node | None:
        """A member of this object, or None if it lacks."""
        return self.field(name) if name in self.object() else None

    def items(self) -> list[Node]:
        """The elements of this array."""
        if not isinstance(self.value, list):
            raise self.error(f"must be an array, not {self.kind}")
        return [Node(value, f"{self.path}[{i}]") for i, value in enumerate(self.value)]

    def text(self) -> str:
        """It as a text."""
        if not isinstance(self.value, str):
            raise self.error(f"must be a text, not {self.kind}")
        return self.value

    def number(self) -> float:
        """It as a finite number."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise self.error(f"must be a number, not {self.kind}")
        try:
            number = float(self.value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise self.error("must be a finite number")
        return number

    def seconds(self, scale: float) -> float:
        """It as a positive time, in seconds, when one of its units takes ``scale`` seconds."""
        number = self.number() * scale
        if not 0.0 < number < math.inf:
            raise self.error("a time must be positive and finite")
        return number

    def all_seconds(self, scale: float) -> tuple[float, ...]:
        """It as an array of positive times, in seconds; see :meth:`seconds`. Recordings hold hundreds of thousands."""
        values = self.value
        if isinstance(values, list) and all(type(value) is float for value in values):
            times = tuple([value * scale for value in values])
            if all(0.0 < time < math.inf for time in times):
                return times
        return tuple(item.seconds(scale) for item in self.items())
