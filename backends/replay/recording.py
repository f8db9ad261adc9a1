"""A recorded space in memory: its parameters, and what happened to every configuration."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import attrs

from fettle.backends.api import Basis, Device, Measurement, Outcome, Parameter, Schedule, Space, Value
from fettle.backends.replay.document import Node

_LARGEST = 2**53
"""Whole numbers beyond it are not exact as floats, which the search computes with."""


@attrs.frozen
class Row:
    """One recorded configuration.

    Attributes:
        values: one per parameter, in their order.
        outcome: OK, or how it failed.
        objective: what is minimised, in the recording's unit; None for a failure.
        samples: recorded seconds per call; empty for a failure.
        message: why it failed, as recorded.
        energy: joules per call if recorded.
    """

    values: tuple[Value, ...]
    outcome: Outcome
    objective: float | None = None
    samples: tuple[float, ...] = ()
    message: str = ""
    energy: float | None = None


@attrs.frozen(eq=False)
class Recording:
    """Everything a file holds that a search can use.

    Attributes:
        digest: SHA-256 of the (unpacked) file in hexadecimal.
        device_name: the hardware's name if the file says it, else empty.
        parameters: as many as each row has values.
        rows: every recorded configuration once, in the file's order.
        unit: the objective's unit, as people write it (``ms``).
        scale: seconds in one ``unit``.
        workload, device: text of what was recorded, and where, if the file says it (ours do).
    """

    digest: str
    device_name: str
    parameters: tuple[Parameter, ...]
    rows: tuple[Row, ...]
    unit: str
    scale: float
    workload: str = ""
    device: Device | None = None

    @functools.cached_property
    def space(self) -> Space:
        """The rows as an explicit table; point *i* is row *i*."""
        return Space(self.parameters, table=tuple(row.values for row in self.rows))

    @functools.cached_property
    def _numbers(self) -> dict[Schedule, int]:
        return {self.schedule(number): number for number in range(len(self.rows))}

    def schedule(self, number: int) -> Schedule:
        """The configuration of a row."""
        names = (p.name for p in self.parameters)
        return Schedule(tuple(zip(names, self.rows[number].values, strict=True)))

    def find(self, schedule: Schedule) -> Row | None:
        """The row of a configuration, or None if it was not recorded."""
        number = self._numbers.get(schedule)
        return None if number is None else self.rows[number]

    @functools.cached_property
    def first_valid(self) -> int:
        """Number of the first row that gave a right result; the file's reader saw to it that there is one."""
        return next(number for number, row in enumerate(self.rows) if row.outcome is Outcome.OK)

    @property
    def optimum(self) -> float:
        """The smallest objective, in the recording's unit. For reports: no sampler may see it."""
        return min(row.objective for row in self.rows if row.objective is not None)

    def measurement(self, row: Row) -> Measurement:
        """What a trial of a row gives: the recorded samples, and the recorded objective as its time."""
        if row.objective is None:
            return Measurement.failure(row.outcome, row.message, Basis.REPLAYED)
        objective = row.objective * self.scale
        samples = row.samples or (objective,)
        return Measurement(row.outcome, samples, Basis.REPLAYED, energy=row.energy, objective=objective)


def tabulate(
    configurations: Sequence[Node], names: Sequence[str]
) -> tuple[tuple[Parameter, ...], list[tuple[Value, ...]]]:
    """Parameters, and the values of each configuration.

    A column of whole numbers stays whole; mixed with fractions it becomes floats. Numeric choices ascend; texts and
    truth values are categories.

    Raises:
        InvalidArgument: a value is missing, of a kind other than its column's, or no plain value; or a configuration
            is recorded twice.
    """
    parameters = []
    columns = []
    for name in names:
        cells = [configuration.field(name) for configuration in configurations]
        values = _column(cells)
        if not name.isidentifier():
            raise cells[0].error(f"the parameter's name {name[:64]!r} is not an identifier")
        parameters.append(Parameter(name, tuple(sorted(set(values)))))
        columns.append(values)
    rows = list(zip(*columns, strict=True))
    seen: dict[tuple[Value, ...], int] = {}
    for number, row in enumerate(rows):
        first = seen.setdefault(row, number)
        if first != number:
            raise configurations[number].error(f"the same configuration as {configurations[first].path}")
    return tuple(parameters), rows


def _column(cells: Sequence[Node]) -> list[Value]:
    kinds = [_kind(cell) for cell in cells]
    for kind, cell in zip(kinds, cells, strict=True):
        if kind != kinds[0]:
            raise cell.error(f"a {kind}, but {cells[0].path} is a {kinds[0]}")
    values: list[Value] = [cell.value for cell in cells]
    if kinds[0] == "number" and any(isinstance(value, float) for value in values):
        return [float(value) for value in values]
    return values


def _kind(cell: Node) -> str:
    value = cell.value
    if isinstance(value, bool):
        return "truth value"
    if isinstance(value, str):
        return "text"
    if isinstance(value, int | float):
        if not abs(value) <= _LARGEST:  # not a number is not, either
            raise cell.error("a parameter's number must be finite and at most 2^53")
        return "number"
    raise cell.error(f"a parameter's value must be a number, a text or a truth value, not {cell.kind}")
