"""What a plugin's method returned, checked where it comes in: a wrong type is told by the method's name, and not by
what would break later, elsewhere."""

from __future__ import annotations

from typing import TypeVar

from fettle.backends.api import Backend
from fettle.graph.errors import InvalidArgument

T = TypeVar("T")


def returned(value: object, kind: type[T], backend: Backend, method: str) -> T:
    """``value``, which a method of the backend returned, if it is of the ``kind`` that the contract asks for.

    Raises:
        InvalidArgument: it is not.
    """
    if isinstance(value, kind):
        return value
    raise InvalidArgument(
        f"{method}() of backend {backend.name!r} returned {type(value).__name__}, not {kind.__name__}",
        hint=f"see docs/plugins.md; fettle.backends.api has {kind.__name__}",
    )
