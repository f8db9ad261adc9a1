"""Independent groups of parameters and their valid rows.

Parameters that share no constraint, directly or through others, are independent. Each group is joined parameter by
parameter in NumPy, applying a constraint as soon as all its names are bound.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.backends._constraints import Predicate
from fettle.backends._evaluation import column
from fettle.backends.api import Parameter, Space
from fettle.graph.errors import InvalidArgument, ResourceExhausted

MAX_GROUP_ROWS = 20_000_000
"""Most valid (partial) rows of one independent group that are kept at any step."""

_BLOCK = 1 << 18
"""Rows expanded at a time, so that memory follows the rows kept and not the rows tried."""

MACHINE_INTEGER = 2**62

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
            if reach * size > MACHINE_INTEGER:  # replace prefixes by their ranks
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
            if reach * size > MACHINE_INTEGER:
                level = next(levels)
                codes, reach = rank(level), len(level)
            codes = codes * size + ordinals
            reach *= size
        return np.where(found, self._order[rank(next(levels))], -1)


def tabulate(space: Space, predicates: Iterable[Predicate]) -> Group:
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
            raise empty(predicate)
    if not len(rows):
        raise empty(None)
    sizes = tuple(len(p.choices) for p in space.parameters)
    return Group.of(tuple(range(len(sizes))), sizes, rows, len(table))


def components(space: Space, predicates: Iterable[Predicate]) -> list[tuple[int, ...]]:
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


def join(space: Space, positions: tuple[int, ...], predicates: Iterable[Predicate]) -> Group:
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
        raise empty(predicates[-1])
    parents = np.concatenate([parents for parents, _ in kept])
    extended: dict[str, Ordinals] = {name: ordinals[parents] for name, ordinals in table.items()}
    extended[parameter.name] = np.concatenate([choices for _, choices in kept])
    return extended, total


def empty(predicate: Predicate | None) -> InvalidArgument:
    return InvalidArgument(
        f"the space is empty: no schedule satisfies {predicate}" if predicate else "the space is empty"
    )
