"""A recorded device as if it were new: how ten measurements there, and recordings of others, rank the rest of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.backends.replay import ReplayBackend
from fettle.backends.replay.recording import Recording
from fettle.bench.search import Mark, recorded_devices, same_kernel
from fettle.bench.sourcefree import best_alone, correlation, model_means
from fettle.costmodel.columns import ScheduleColumns
from fettle.costmodel.metrics import spearman
from fettle.costmodel.newdevice import KnownDevices
from fettle.search.explore import recorded_trials
from fettle.search.newdevice import known_times

Array = NDArray[np.float64]

LEAD = 0.1
"""Rank correlation by which ours must beat the best known device, and ten measurements alone."""


@attrs.frozen
class NewDevice:
    """One recording in the part of the new device. Figures are rank correlations with the times of its valid rows
    that are no references, means over seeds.

    Attributes:
        known: how many other devices were recorded.
        ours: of what is predicted from them and the references; ``lowest`` is that of the least lucky seed.
        nearest: of the known device whose times are most like the new one's, which nobody can know beforehand.
        alone: of as many measurements without any known device, chosen and used in the way that turned out best;
            ``alone_by`` names design and model.
        references_alone: of the references, which were chosen with the known devices, with the model that turned out
            best; ``references_by`` names it.
        ceiling: of every other sample with those in between: no prediction ranks better than times rank themselves.
            None without samples.
    """

    space: str
    known: int
    ours: float
    lowest: float
    nearest: float
    alone: float
    alone_by: str
    references_alone: float
    references_by: str
    ceiling: float | None

    def marks(self) -> list[Mark]:
        """The aims, as far as the ceiling leaves room for them."""
        marks = []
        for rival, value in (
            ("the best known device", self.nearest),
            ("ten measurements alone", self.alone),
            ("the references alone", self.references_alone),
        ):
            target = min(value + LEAD, 1.0 if self.ceiling is None else self.ceiling)
            aim = f"new device {self.space}, {LEAD} above {rival}"
            marks.append(Mark(aim, self.ours, target, self.ours >= target))
        return marks


def bench_new_devices(
    files: Sequence[Path], references: int, seeds: int, show: Callable[[str], None] = lambda text: None
) -> list[NewDevice]:
    """Every recording that another one has the same parameters as, with the seeds 0 … seeds-1.

    Args:
        references: measurements on the new device; those that fail there count.

    Raises:
        InvalidArgument: two files of one name.
        NotFound, ResourceExhausted: a file cannot be read.
    """
    backend = ReplayBackend()
    recordings = {title: backend.recording(device) for title, device in recorded_devices(backend, files).items()}
    found = []
    for title, recording in recordings.items():
        others = [r for r in recordings.values() if r is not recording and same_kernel(r, recording)]
        if others and (placed := _place(title, recording, others, references, seeds)):
            found.append(placed)
            show(f"{title}: new device")
    return found


def _place(
    title: str, recording: Recording, others: Sequence[Recording], references: int, seeds: int
) -> NewDevice | None:
    """None if the others have too few times of the same schedules to learn from."""
    schedules = [recording.schedule(number) for number in range(len(recording.rows))]
    features = ScheduleColumns(recording.space).of(schedules)
    times = _log([row.objective for row in recording.rows])
    known = known_times(schedules, [recorded_trials(other) for other in others])
    if not known.shape[1]:
        return None
    devices = KnownDevices(features, known)
    chosen = [devices.choose_references(np.random.default_rng(seed), references) for seed in range(seeds)]

    def ours(features: Array, worked: list[int], log_times: Array) -> Array:
        return devices.predict(worked, log_times)

    ranked = [correlation(ours, features, times, points) for points in chosen]
    by_model = model_means(features, times, chosen)
    best = max(by_model, key=lambda model: by_model[model])
    return NewDevice(
        title,
        known.shape[1],
        math.fsum(ranked) / seeds,
        min(ranked),
        max(_correlation(column, times) for column in known.T),
        *best_alone(features, times, references, seeds),
        by_model[best],
        best,
        _ceiling(recording),
    )


def _correlation(one: Array, two: Array) -> float:
    """Rank correlation where both have a value."""
    both = np.isfinite(one) & np.isfinite(two)
    return spearman(one[both], two[both]) or 0.0


def _ceiling(recording: Recording) -> float | None:
    """Rank correlation of the medians of every other sample with those of the samples in between."""
    samples = [row.samples for row in recording.rows if row.objective is not None and len(row.samples) > 1]
    return spearman([np.median(s[::2]) for s in samples], [np.median(s[1::2]) for s in samples])


def _log(times: Sequence[float | None]) -> Array:
    return np.array([math.nan if time is None else math.log(time) for time in times])
