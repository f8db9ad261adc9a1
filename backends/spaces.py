"""Enumeration of spaces: how many schedules are valid, which ones, a fair sample of them, and their neighbours.

A space is the product of its independent groups (``_groups.py``) and is never materialised, so it may be
astronomically large.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from functools import lru_cache

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.backends._constraints import Predicate
from fettle.backends._evaluation import column
from fettle.backends._groups import MACHINE_INTEGER, Group, components, empty, join, tabulate
from fettle.backends.api import Constraint, Parameter, Schedule, Space, Value
from fettle.graph.errors import InvalidArgument

_SHOWN = 12
"""Choices that a message lists."""


@attrs.frozen(eq=False)
class Points:
    """The valid schedules of a space, numbered 0 … size-1.

    A table's points keep the order of its rows. Numbers of a declarative space depend only on the space.
    """

    space: Space
    groups: tuple[Group, ...]

    @property
    def size(self) -> int:
        """How many schedules are valid; exact, of any size."""
        return math.prod(len(group) for group in self.groups)

    @property
    def tried(self) -> int:
        """Combinations that enumeration looked at (the product of all choices would be the naive figure)."""
        return sum(group.tried for group in self.groups)

    @property
    def names(self) -> tuple[str, ...]:
        """Parameter names: the columns of :meth:`encode`."""
        return self.space.names

    def __len__(self) -> int:
        """As :attr:`size`; Python raises OverflowError above ``sys.maxsize``."""
        return self.size

    def __getitem__(self, index: int) -> Schedule:
        """The schedule of that number; IndexError outside 0 … size-1."""
        (ordinals,) = self._ordinals([index])
        return self._schedule(ordinals)

    def __contains__(self, schedule: object) -> bool:
        return isinstance(schedule, Schedule) and self.index(schedule) is not None

    def index(self, schedule: Schedule) -> int | None:
        """The number of a schedule, or None if it is no point of the space."""
        ordinals = _ordinals_of(self.space, schedule)
        if isinstance(ordinals, str):
            return None
        index = 0
        for group in self.groups:
            (row,) = group.find(ordinals[None, list(group.positions)]).tolist()
            if row < 0:
                return None
            index = index * len(group) + row
        return index

    def schedule(self, values: Mapping[str, Value]) -> Schedule:
        """The schedule with these values.

        Raises:
            InvalidArgument: a name is unknown or missing, a value is no choice, or a constraint is violated.
        """
        schedule = Schedule(tuple(values.items()))
        if (why := why_invalid(self.space, schedule)) is not None:
            raise InvalidArgument(f"not a schedule of this space: {why}")
        return schedule

    def sample(self, rng: np.random.Generator, count: int) -> list[int]:
        """``min(count, size)`` numbers drawn uniformly without replacement, ascending."""
        size = self.size
        if count >= size:
            return list(range(size))
        if size < MACHINE_INTEGER:
            return sorted(rng.choice(size, max(count, 0), replace=False, shuffle=False).tolist())
        drawn: set[int] = set()
        while len(drawn) < count:
            index = 0
            for group in self.groups:
                index = index * len(group) + int(rng.integers(len(group)))
            drawn.add(index)
        return sorted(drawn)

    def neighbours(self, index: int) -> list[int]:
        """Numbers of the points that differ from ``index`` in exactly one parameter, nearest first.

        The distance of two numeric choices is how far apart they stand among the choices; two categorical
        choices are 1 apart. At equal distance, parameters come in their declared order.
        """
        (here,) = self._ordinals([index])
        found: list[tuple[int, int, int]] = []
        stride = self.size
        for group in self.groups:
            stride //= len(group)
            positions = list(group.positions)
            moves = [
                (at, choice)
                for at, position in enumerate(positions)
                for choice in range(len(self.space.parameters[position].choices))
                if choice != here[position]
            ]
            if not moves:
                continue
            wanted = np.tile(here[positions], (len(moves), 1))
            columns, choices = np.array(moves).T
            wanted[np.arange(len(moves)), columns] = choices
            row = index // stride % len(group)
            for (at, choice), other in zip(moves, group.find(wanted).tolist(), strict=True):
                if other >= 0:
                    position = positions[at]
                    numeric = self.space.parameters[position].is_numeric
                    distance = abs(choice - int(here[position])) if numeric else 1
                    found.append((distance, position, index + (other - row) * stride))
        found.sort(key=operator.itemgetter(0, 1))
        return [other for _, _, other in found]

    def encode(self, indices: Sequence[int] | NDArray[np.integer]) -> NDArray[np.float64]:
        """Points as numbers, ``[n, parameters]``: a numeric parameter's value, a categorical one's ordinal."""
        ordinals = self._ordinals(indices)
        encoded = ordinals.astype(np.float64)
        for position, parameter in enumerate(self.space.parameters):
            if parameter.is_numeric:
                encoded[:, position] = np.array(parameter.choices, np.float64)[ordinals[:, position]]
        return encoded

    def _ordinals(self, indices: Sequence[int] | NDArray[np.integer]) -> NDArray[np.int64]:
        numbers = [operator.index(i) for i in indices]
        if numbers and not (min(numbers) >= 0 and max(numbers) < self.size):
            raise IndexError(f"a point's number is outside 0 … {self.size - 1}")
        rest = np.array(numbers, np.int64 if self.size < MACHINE_INTEGER else object)
        ordinals = np.empty((len(numbers), len(self.space.parameters)), np.int64)
        for group in reversed(self.groups):
            row = (rest % len(group)).astype(np.int64)
            rest = rest // len(group)
            ordinals[:, list(group.positions)] = group.rows[row]
        return ordinals

    def _schedule(self, ordinals: NDArray[np.int64]) -> Schedule:
        pairs = zip(self.space.parameters, ordinals.tolist(), strict=True)
        return Schedule(tuple((parameter.name, parameter.choices[ordinal]) for parameter, ordinal in pairs))


def enumerate_space(space: Space) -> Points:
    """All valid schedules of a space.

    Raises:
        InvalidArgument: a malformed constraint, a table with an unknown value or a repeated row, or no valid schedule.
        ResourceExhausted: one independent group alone has more rows than ``_groups.MAX_GROUP_ROWS``.
    """
    predicates = [Predicate.parse(constraint, space.parameters) for constraint in space.constraints]
    for predicate in predicates:
        if not predicate.names and not predicate.holds({})[0]:
            raise empty(predicate)
    if space.table is not None:
        return Points(space, (tabulate(space, predicates),))
    named = [predicate for predicate in predicates if predicate.names]
    return Points(space, tuple(join(space, positions, named) for positions in components(space, named)))


def is_valid(space: Space, schedule: Schedule) -> bool:
    """Whether a schedule is a point of a space; does not enumerate. Raises InvalidArgument as enumeration does."""
    return why_invalid(space, schedule) is None


def why_invalid(space: Space, schedule: Schedule) -> str | None:
    """What keeps a schedule from being a point of a space, for people; None if it is one."""
    ordinals = _ordinals_of(space, schedule)
    if isinstance(ordinals, str):
        return ordinals
    for constraint in space.constraints:
        predicate = _parsed(constraint, space.parameters)
        if not predicate.holds({name: column([schedule[name]]) for name in predicate.names})[0]:
            return f"violates {predicate}"
    if space.table is not None and tuple(schedule[name] for name in space.names) not in space.table:
        return "not a row of the space's table"
    return None


@lru_cache(maxsize=64)
def _parsed(constraint: Constraint, parameters: tuple[Parameter, ...]) -> Predicate:
    """Remembered, since untuned choices ask for hundreds of schedules of one space."""
    return Predicate.parse(constraint, parameters)


def _ordinals_of(space: Space, schedule: Schedule) -> NDArray[np.int64] | str:
    """Ordinal of every parameter's value, or what is wrong with the schedule."""
    values = schedule.as_dict()
    if unknown := values.keys() - set(space.names):
        return f"unknown parameter {min(unknown)!r}"
    ordinals = []
    for parameter in space.parameters:
        if parameter.name not in values:
            return f"no value for parameter {parameter.name!r}"
        ordinal = _ordinal(parameter, values[parameter.name])
        if ordinal is None:
            return f"{parameter.name}={values[parameter.name]!r} is none of its choices: {_listed(parameter)}"
        ordinals.append(ordinal)
    return np.array(ordinals, np.int64)


def _listed(parameter: Parameter) -> str:
    """The choices, for people; of many the first."""
    shown = " ".join(str(choice) for choice in parameter.choices[:_SHOWN])
    return f"{shown} …" if len(parameter.choices) > _SHOWN else shown


def _ordinal(parameter: Parameter, value: Value) -> int | None:
    """1, 1.0 and True are equal in Python but are different choices: their keys differ."""
    if type(value) is not type(parameter.choices[0]) or value not in parameter.choices:
        return None
    return parameter.choices.index(value)
