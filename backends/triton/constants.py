"""What templates with many constants are told when they are compiled: one argument ``C`` with attributes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fettle.backends.api import Value

PARAMETER = "C"
"""The parameter of a template that takes all of a launch's constants."""


class Constants:
    """A launch's constants as attributes. Triton hashes what it compiles by ``repr``.

    Args:
        wrap: what Triton wants constants in: ``tl.constexpr`` where it compiles, nothing where it interprets.
    """

    def __init__(self, values: Mapping[str, Value], wrap: Callable[[Value], Any]) -> None:
        self._values = tuple(values.items())
        for name, value in self._values:
            setattr(self, name, wrap(value))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constants) and self._values == other._values

    def __hash__(self) -> int:
        return hash(self._values)

    def __repr__(self) -> str:
        return ",".join(f"{name}={value}" for name, value in self._values)


def arguments(
    names: Sequence[str], constants: Sequence[tuple[str, Value]], wrap: Callable[[Value], Any]
) -> dict[str, Any]:
    """Constants as a template with parameters of these ``names`` takes them: each by its name, or all as ``C``."""
    values = dict(constants)
    return {PARAMETER: Constants(values, wrap)} if PARAMETER in names else values
