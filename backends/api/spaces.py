"""Spaces: parameters and constraints, declared; and schedules, their points."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from fettle.backends.api.values import Pairs, Value, sorted_pairs
from fettle.graph import codec
from fettle.graph.errors import InvalidArgument


@attrs.frozen
class Schedule:
    """One point of a space: a value for every parameter. Plain data with a key."""

    values: Pairs = attrs.field(default=(), converter=sorted_pairs)

    @classmethod
    def of(cls, **values: Value) -> Schedule:
        """Build from keywords."""
        return cls(tuple(values.items()))

    def __getitem__(self, name: str) -> Any:
        for key, value in self.values:
            if key == name:
                return value
        raise KeyError(name)

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a parameter, or ``default``."""
        return dict(self.values).get(name, default)

    def as_dict(self) -> dict[str, Value]:
        """Parameter -> value."""
        return dict(self.values)

    @property
    def key(self) -> str:
        """256-bit key in hexadecimal."""
        return codec.digest(("fettle.schedule", self.values))

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.values)


@attrs.frozen
class Parameter:
    """One dimension of a space: a name and its finite, ordered choices.

    Attributes:
        name: a Python identifier; constraints refer to it.
        choices: the values, all of one type, no repeats. Numeric choices ascend.
    """

    name: str
    choices: tuple[Value, ...]

    def __attrs_post_init__(self) -> None:
        if not self.name.isidentifier():
            raise InvalidArgument(f"parameter name {self.name!r} is not an identifier")
        if not self.choices or len(set(self.choices)) != len(self.choices):
            raise InvalidArgument(f"parameter {self.name} needs at least one choice and no repeats")
        if len({type(c) for c in self.choices}) != 1:
            raise InvalidArgument(f"choices of parameter {self.name} have different types")
        if self.is_numeric and list(self.choices) != sorted(self.choices):
            raise InvalidArgument(f"numeric choices of parameter {self.name} must ascend")

    @property
    def is_numeric(self) -> bool:
        """Whether an order of the choices means something."""
        return type(self.choices[0]) in (int, float)

    @classmethod
    def integers(cls, name: str, low: int, high: int, step: int = 1) -> Parameter:
        """low, low+step, … up to high."""
        return cls(name, tuple(range(low, high + 1, step)))

    @classmethod
    def powers_of_two(cls, name: str, low: int, high: int) -> Parameter:
        """Powers of two in low … high."""
        return cls(name, tuple(1 << i for i in range(high.bit_length()) if low <= 1 << i <= high))

    @classmethod
    def divisors(cls, name: str, of: int, low: int = 1, high: int | None = None) -> Parameter:
        """Divisors of ``of`` in low … high."""
        top = of if high is None else min(of, high)
        return cls(name, tuple(d for d in range(low, top + 1) if of % d == 0))

    @classmethod
    def categorical(cls, name: str, choices: Sequence[Value]) -> Parameter:
        """Unordered choices (numbers must still ascend)."""
        return cls(name, tuple(choices))


@attrs.frozen
class Constraint:
    """A Python expression over parameter names that valid schedules satisfy: ``tile_m * tile_n <= 512``.

    Allowed: names, numbers, strings, ``+ - * // %``, comparisons (``in`` with a tuple), ``and or not``,
    ``a if c else b``, ``min(a, b)``, ``max(a, b)``. Division is floor division on integers.

    Attributes:
        expression: see above.
        reason: why, for people.
    """

    expression: str
    reason: str = ""


def _parameters(values: Iterable[Parameter]) -> tuple[Parameter, ...]:
    return tuple(values)


def _constraints(values: Iterable[Constraint]) -> tuple[Constraint, ...]:
    constraints = tuple(values)
    for value in constraints:
        if not isinstance(value, Constraint):  # a text, most likely
            raise InvalidArgument(
                f"a constraint is a Constraint, not {type(value).__name__}", hint=f"write Constraint({value!r})"
            )
    return constraints


@attrs.frozen
class Space:
    """The schedules possible for one (workload, device).

    Either declarative (``parameters`` and ``constraints``) or an explicit ``table`` of rows, one value per
    parameter. Enumeration, sampling and neighbourhoods: :func:`fettle.backends.spaces.enumerate_space`.

    Attributes:
        version: changes whenever the meaning of a parameter changes; stored with every record.
    """

    parameters: tuple[Parameter, ...] = attrs.field(converter=_parameters)
    constraints: tuple[Constraint, ...] = attrs.field(default=(), converter=_constraints)
    version: str = "1"
    table: tuple[tuple[Value, ...], ...] | None = None

    def __attrs_post_init__(self) -> None:
        names = [p.name for p in self.parameters]
        if len(set(names)) != len(names):
            raise InvalidArgument("a space has two parameters of one name")
        if self.table is not None and any(len(row) != len(names) for row in self.table):
            raise InvalidArgument("a row of the space's table has the wrong length")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(p.name for p in self.parameters)

    @property
    def choices(self) -> dict[str, tuple[Any, ...]]:
        """Parameter -> its choices."""
        return {p.name: p.choices for p in self.parameters}
