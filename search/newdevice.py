"""A few measurements on a new device, and how long every other schedule should take there."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.backends.api import Record, Schedule
from fettle.backends.spaces import Points
from fettle.costmodel.columns import ScheduleColumns
from fettle.costmodel.newdevice import REFERENCES, KnownDevices, says_something
from fettle.costmodel.transfer import Trials
from fettle.graph.errors import InvalidArgument, Unsupported
from fettle.search.trials import is_valid

Array = NDArray[np.float64]

_LOOKED_AT = 16384
"""Schedules of a larger space that are predicted: those that were tried elsewhere, and random ones."""


@attrs.frozen
class Prediction:
    """Seconds that a schedule should take."""

    schedule: Schedule
    seconds: float


class NewDevice:
    """A space on a device that nobody measured, and trials of the same schedules on other devices.

    Args:
        known: trials on each other device.

    Raises:
        InvalidArgument: none of them has eight different times of this space's schedules.
    """

    def __init__(self, points: Points, known: Sequence[Trials]) -> None:
        indices = _looked_at(points, known)
        self.schedules = tuple(points[index] for index in indices)
        times = known_times(self.schedules, known)
        if not times.shape[1]:
            raise InvalidArgument(
                "what is known has too few times of this space's schedules",
                hint="give a recording of at least eight of them on another device (--known)",
            )
        self._devices = KnownDevices(ScheduleColumns(points.space).matrix(points, indices), times)
        self.known = times.shape[1]

    def references(self, seed: int, count: int = REFERENCES) -> list[Schedule]:
        """What to measure: after that the least uncertainty should be left of the others."""
        return [self.schedules[at] for at in self._devices.choose_references(np.random.default_rng(seed), count)]

    def predict(self, measured: Sequence[Record]) -> list[Prediction]:
        """The schedules that were not measured, the fastest first.

        Raises:
            Unsupported: fewer than two references worked, or all are equally fast.
        """
        numbers = {schedule: at for at, schedule in enumerate(self.schedules)}
        worked = [r for r in measured if is_valid(r)]
        log_times = np.array([math.log(r.measurement.time) for r in worked])
        try:
            expected = self._devices.predict([numbers[r.candidate.schedule] for r in worked], log_times)
        except ValueError as problem:
            raise Unsupported(
                f"nothing follows from {len(measured)} measurements, of which {len(worked)} worked: {problem}",
                hint="measure more references, or choose others with another seed",
            ) from None
        tried = {numbers[r.candidate.schedule] for r in measured}
        order = [int(at) for at in np.argsort(expected, kind="stable") if int(at) not in tried]
        return [Prediction(self.schedules[at], math.exp(expected[at])) for at in order]


def known_times(schedules: Sequence[Schedule], known: Sequence[Trials]) -> Array:
    """log(time) of schedules on other devices, [schedules, devices], infinite or NaN where there is none; without
    devices that have too few to learn from."""
    columns = []
    for trials in known:
        times = dict(zip(trials.schedules, trials.values.tolist(), strict=True))
        column = np.array([times.get(schedule, math.nan) for schedule in schedules])
        if says_something(column):
            columns.append(column)
    return np.stack(columns, axis=1) if columns else np.empty((len(schedules), 0))


def _looked_at(points: Points, known: Sequence[Trials]) -> list[int]:
    """Numbers of points, ascending."""
    if points.size <= _LOOKED_AT:
        return list(range(points.size))
    rng = np.random.default_rng(0)
    tried = {index for trials in known for s in trials.schedules if (index := points.index(s)) is not None}
    chosen: dict[int, None] = {}
    for numbers in (sorted(tried), points.sample(rng, _LOOKED_AT)):
        chosen |= dict.fromkeys(numbers[at] for at in rng.permutation(len(numbers)))
    return sorted(list(chosen)[:_LOOKED_AT])
