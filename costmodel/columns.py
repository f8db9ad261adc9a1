"""A schedule as numbers between 0 and 1, from its values alone: cheap enough for every point of a space."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.backends.api import Parameter, Schedule, Space
from fettle.backends.spaces import Points
from fettle.graph import codec

Array = NDArray[np.float64]

_MOST_ZEROS = 7
"""Trailing zero bits beyond this (a multiple of 128) are not told apart: no cache line or warp is larger."""

_FEW = 4
"""With so few choices alignment says nothing that their order does not."""


@attrs.frozen(eq=False)
class _Column:
    """One column: a name, the parameter it comes from, and what each of its choices becomes."""

    name: str
    position: int
    values: Array


class ScheduleColumns:
    """Columns of a space's schedules, each 0 … 1 over the choices that occur:

    * ``log2:tile`` for a numeric parameter of positive choices, ``rank:offset`` for any other and for two choices,
    * ``align:tile``, trailing zero bits of whole numbers: hardware likes multiples of its widths, and so 96 better
      than 97, an order that size does not show,
    * ``choice:algorithm=lut``, 1 or 0, for each of three or more categories, ``rank:`` for two.

    A parameter with one choice gives no column.
    """

    def __init__(self, space: Space) -> None:
        self._parameters = space.parameters
        self._numeric = [np.array(p.choices, np.float64) if p.is_numeric else None for p in space.parameters]
        self._columns = [c for at, p in enumerate(space.parameters) if len(p.choices) > 1 for c in _columns(at, p)]
        self.names = tuple(c.name for c in self._columns)

    @property
    def key(self) -> str:
        """256-bit key in hexadecimal: equal keys give equal columns."""
        return codec.digest(("fettle.columns", tuple((p.name, p.choices) for p in self._parameters)))

    def of(self, schedules: Sequence[Schedule]) -> Array:
        """As :meth:`matrix`, of schedules that need not be points: of another space, with other choices.

        Numbers in between and beyond are interpolated and held; a category that is none of the choices, or a
        parameter that is missing, is 0 in all its columns.
        """
        result = np.zeros((len(schedules), len(self._columns)))
        for number, column in enumerate(self._columns):
            choices, values = self._numeric[column.position], column.values
            parameter = self._parameters[column.position]
            given = [schedule.get(parameter.name) for schedule in schedules]
            if choices is None:
                known = dict(zip(parameter.choices, values.tolist(), strict=True))
                result[:, number] = [known.get(value, 0.0) for value in given]
            else:
                numbers = np.array([v if isinstance(v, int | float) else np.nan for v in given], np.float64)
                result[:, number] = np.nan_to_num(np.interp(numbers, choices, values))
        return result

    def matrix(self, points: Points, indices: Sequence[int]) -> Array:
        """[len(indices), len(names)]."""
        encoded = points.encode(indices)
        for position, choices in enumerate(self._numeric):
            if choices is not None:
                encoded[:, position] = np.searchsorted(choices, encoded[:, position])
        ordinals = encoded.astype(np.int64)
        result = np.empty((len(indices), len(self._columns)))
        for number, column in enumerate(self._columns):
            result[:, number] = column.values[ordinals[:, column.position]]
        return result


def _columns(position: int, parameter: Parameter) -> list[_Column]:
    name, count = parameter.name, len(parameter.choices)
    ranks = np.arange(count) / (count - 1)
    if not parameter.is_numeric:
        if count == 2:
            return [_Column(f"rank:{name}", position, ranks)]
        return [
            _Column(f"choice:{name}={choice}", position, np.eye(count)[at])
            for at, choice in enumerate(parameter.choices)
        ]
    values = np.array(parameter.choices, np.float64)
    if values[0] <= 0.0 or count == 2:
        columns = [_Column(f"rank:{name}", position, ranks)]
    else:
        columns = [_Column(f"log2:{name}", position, _scaled(np.log2(values)))]
    zeros = np.array([_trailing_zeros(value) for value in values])
    if count > _FEW and 1 < len(set(zeros.tolist())) < count:
        columns.append(_Column(f"align:{name}", position, _scaled(zeros)))
    return columns


def _trailing_zeros(value: float) -> float:
    if value <= 0.0 or not value.is_integer():
        return 0.0
    whole = int(value)
    return float(min((whole & -whole).bit_length() - 1, _MOST_ZEROS))


def _scaled(values: Array) -> Array:
    return np.asarray((values - values.min()) / np.ptp(values), np.float64)
