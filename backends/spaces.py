"""Enumeration of spaces: how many schedules are valid, which ones, a fair sample of them, and their neighbours.

Parameters that share no constraint, directly or through others, are independent. Each independent group is
joined parameter by parameter in NumPy, applying a constraint as soon as all its names are bound; the space is
the product of its groups and is never materialised, so it may be astronomically large.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping, Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.backends._constraints import Predicate, column
from fettle.backends.api import Parameter, Schedule, Space, Value
from fettle.graph.errors import InvalidArgument, ResourceExhausted

MAX_GROUP_ROWS = 20_000_000
"""Most valid (partial) rows of one independent group that are kept at any step."""

_BLOCK = 1 << 18
"""Rows expanded at a time, so that memory follows the rows kept and not the rows tried."""

_MACHINE_INTEGER = 2**62

Ordinals = NDArray[np.integer]


@attrs.frozen(eq=False)
class Group:
    """Valid combinations of parameters that depend on each other.

    Attributes:
        positions: which parameters of the space, ascending.
        rows: ordinals of their choices, ``[n, len(positions)]``, no two rows equal.
        tried: combinations that were looked at to find them.
    """

    positions: tuple[int, ...]
    rows: Ordinals
    tried: int
    _sizes: tuple[int, ...]
    _order: NDArray[np.int64]
    _levels: tuple[NDArray[np.int64], ...]

    @classmethod
    def of(cls, positions: tuple[int, ...], sizes: tuple[int, ...], rows: Ordinals, tried: int) -> Group:
        """Index rows for :meth:`find`; equal rows raise InvalidArgument."""
        levels: list[NDArray[np.int64]] = []
        codes = np.zeros(len(rows), np.int64)
        reach = 1
        for ordinals, size in zip(rows.T, sizes, strict=True):
            if reach * size > _MACHINE_INTEGER:  # replace prefixes by their ranks
                level, codes = np.unique(codes, return_inverse=True)
                levels.append(level)
                reach = len(level)
            codes = codes * size + ordinals
            reach *= size
        order = np.argsort(codes, kind="stable")
        codes = codes[order]
        if np.any(codes[1:] == codes[:-1]):
            raise InvalidArgument("the table of a space lists a row twice")
        return cls(positions, rows, tried, sizes, order, (*levels, codes))

    def __len__(self) -> int:
        return len(self.rows)

    def find(self, wanted: Ordinals) -> NDArray[np.int64]:
        """Row numbers of ``wanted`` ``[m, len(positions)]``; -1 where there is no such row."""
        levels = iter(self._levels)
        codes = np.zeros(len(wanted), np.int64)
        found = np.ones(len(wanted), np.bool_)
        reach = 1

        def rank(level: NDArray[np.int64]) -> NDArray[np.int64]:
            ranks = np.minimum(np.searchsorted(level, codes), len(level) - 1)
            np.logical_and(found, level[ranks] == codes, out=found)
            return ranks

        for ordinals, size in zip(wanted.T, self._sizes, strict=True):
            if reach * size > _MACHINE_INTEGER:
                level = next(levels)
                codes, reach = rank(level), len(level)
            codes = codes * size + ordinals
            reach *= size
        return np.where(found, self._order[rank(next(levels))], -1)


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
        if size < _MACHINE_INTEGER:
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
        rest = np.array(numbers, np.int64 if self.size < _MACHINE_INTEGER else object)
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
        ResourceExhausted: one independent group alone has more than :data:`MAX_GROUP_ROWS` rows.
    """
    predicates = [Predicate.parse(constraint, space.parameters) for constraint in space.constraints]
    for predicate in predicates:
        if not predicate.names and not predicate.holds({})[0]:
            raise _empty(predicate)
    if space.table is not None:
        return Points(space, (_tabulate(space, predicates),))
    named = [predicate for predicate in predicates if predicate.names]
    return Points(space, tuple(_join(space, positions, named) for positions in _components(space, named)))


def is_valid(space: Space, schedule: Schedule) -> bool:
    """Whether a schedule is a point of a space; does not enumerate. Raises InvalidArgument as enumeration does."""
    return why_invalid(space, schedule) is None


def why_invalid(space: Space, schedule: Schedule) -> str | None:
    """What keeps a schedule from being a point of a space, for people; None if it is one."""
    ordinals = _ordinals_of(space, schedule)
    if isinstance(ordinals, str):
        return ordinals
    for constraint in space.constraints:
        predicate = Predicate.parse(constraint, space.parameters)
        if not predicate.holds({name: column([schedule[name]]) for name in predicate.names})[0]:
            return f"violates {predicate}"
    if space.table is not None and tuple(schedule[name] for name in space.names) not in space.table:
        return "not a row of the space's table"
    return None


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
            return f"{parameter.name}={values[parameter.name]!r} is none of its choices"
        ordinals.append(ordinal)
    return np.array(ordinals, np.int64)


def _ordinal(parameter: Parameter, value: Value) -> int | None:
    """1, 1.0 and True are equal in Python but are different choices: their keys differ."""
    if type(value) is not type(parameter.choices[0]) or value not in parameter.choices:
        return None
    return parameter.choices.index(value)


def _empty(predicate: Predicate | None) -> InvalidArgument:
    return InvalidArgument(
        f"the space is empty: no schedule satisfies {predicate}" if predicate else "the space is empty"
    )


def _tabulate(space: Space, predicates: Iterable[Predicate]) -> Group:
    """The rows of a table that satisfy the constraints, in the table's order."""
    table = space.table or ()
    columns: list[list[int]] = []
    for parameter, values in zip(space.parameters, zip(*table, strict=True), strict=False):
        ordinals = {choice: ordinal for ordinal, choice in enumerate(parameter.choices)}
        kind = type(parameter.choices[0])
        for value in values:
            if type(value) is not kind or value not in ordinals:
                raise InvalidArgument(f"the table has {parameter.name}={value!r}, which is none of its choices")
        columns.append([ordinals[value] for value in values])
    rows = np.array(columns, np.int64).reshape(len(space.parameters), len(table)).T
    for predicate in predicates:
        used = {
            p.name: column(p.choices)[rows[:, i]] for i, p in enumerate(space.parameters) if p.name in predicate.names
        }
        rows = rows[np.broadcast_to(predicate.holds(used), len(rows))]
        if not len(rows):
            raise _empty(predicate)
    if not len(rows):
        raise _empty(None)
    sizes = tuple(len(p.choices) for p in space.parameters)
    return Group.of(tuple(range(len(sizes))), sizes, rows, len(table))


def _components(space: Space, predicates: Iterable[Predicate]) -> list[tuple[int, ...]]:
    """Positions of the parameters of each independent group (union-find over shared constraints)."""
    positions = {name: position for position, name in enumerate(space.names)}
    parent = list(range(len(positions)))

    def root(position: int) -> int:
        while parent[position] != position:
            parent[position] = parent[parent[position]]
            position = parent[position]
        return position

    for predicate in predicates:
        first, *others = (root(positions[name]) for name in predicate.names)
        for other in others:
            parent[root(other)] = root(first)
    components: dict[int, list[int]] = {}
    for position in range(len(parent)):
        components.setdefault(root(position), []).append(position)
    return [tuple(component) for component in components.values()]


def _binding_order(space: Space, positions: Sequence[int], predicates: Sequence[Predicate]) -> list[int]:
    """Greedy: next complete the constraint whose unbound parameters have the fewest combinations."""
    sizes = {space.names[position]: len(space.parameters[position].choices) for position in positions}
    order: list[str] = []
    while unbound := [name for name in sizes if name not in order]:
        waiting = [missing for p in predicates if (missing := p.names.intersection(unbound))]
        chosen = min(waiting, key=lambda missing: (math.prod(sizes[n] for n in missing), sorted(missing)), default=None)
        order += sorted(chosen or unbound, key=lambda name: (sizes[name], name))
    return [space.names.index(name) for name in order]


def _join(space: Space, positions: tuple[int, ...], predicates: Iterable[Predicate]) -> Group:
    """Valid rows of one independent group, in lexicographic order."""
    members = {space.names[position] for position in positions}
    waiting = [predicate for predicate in predicates if predicate.names <= members]
    table: dict[str, Ordinals] = {}
    tried, count = 0, 1
    for position in _binding_order(space, positions, waiting):
        parameter = space.parameters[position]
        bound = {*table, parameter.name}
        ready = [predicate for predicate in waiting if predicate.names <= bound]
        waiting = [predicate for predicate in waiting if predicate not in ready]
        tried += count * len(parameter.choices)
        table, count = _extend(space, table, count, parameter, ready)
    rows = np.stack([table[space.names[position]] for position in positions], axis=1)
    order = np.lexsort(rows.T[::-1])
    return Group.of(positions, tuple(len(space.parameters[p].choices) for p in positions), rows[order], tried)


def _extend(
    space: Space, table: Mapping[str, Ordinals], count: int, parameter: Parameter, predicates: Sequence[Predicate]
) -> tuple[dict[str, Ordinals], int]:
    """Join a table of ``count`` rows with one more parameter, keeping what satisfies ``predicates``."""
    size = len(parameter.choices)
    used = frozenset[str]().union(*(predicate.names for predicate in predicates))
    values = {p.name: column(p.choices) for p in space.parameters if p.name in used}
    ordinal_type = np.min_scalar_type(size - 1)
    step = max(1, _BLOCK // size)
    kept: list[tuple[Ordinals, Ordinals]] = []
    total = 0
    for start in range(0, count, step):
        parents = np.repeat(np.arange(start, min(start + step, count)), size)
        choices = np.tile(np.arange(size, dtype=ordinal_type), len(parents) // size)
        for predicate in predicates:
            columns = {n: values[n][choices if n == parameter.name else table[n][parents]] for n in predicate.names}
            mask = predicate.holds(columns)
            parents, choices = parents[mask], choices[mask]
        kept.append((parents, choices))
        total += len(parents)
        if total > MAX_GROUP_ROWS:
            raise ResourceExhausted(
                f"enumerating the space needs more than {MAX_GROUP_ROWS} rows for the parameters "
                f"{' '.join([*table, parameter.name])}, which depend on each other",
                hint="use fewer choices, or constraints over fewer parameters at once",
            )
    if not total:
        raise _empty(predicates[-1])
    parents = np.concatenate([parents for parents, _ in kept])
    extended: dict[str, Ordinals] = {name: ordinals[parents] for name, ordinals in table.items()}
    extended[parameter.name] = np.concatenate([choices for _, choices in kept])
    return extended, total
