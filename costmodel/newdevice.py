"""A device nobody measured: ten reference measurements place it among the devices that are known.

As in HELP (Lee et al., 2106.08630) a device is described by the latencies of a few reference points. Here that
description is a posterior: how much each known device's times explain those of the references, and by what offset,
with what they leave unexplained falling off with distance from the references (:mod:`fettle.costmodel.gaussian`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fettle.costmodel.gaussian import GaussianProcess, learn

Array = NDArray[np.float64]

REFERENCES = 10


def choose_references(known: Array, rng: np.random.Generator, count: int = REFERENCES) -> list[int]:
    """Points to measure on the new device: one from each of ``count`` equally large classes, from those expected
    fast to those expected slow; any ten fast points would be alike.

    Args:
        known: [points, devices], log(time) on the known devices, all finite.
    """
    order = np.argsort(_standardised(known).mean(axis=1), kind="stable")
    return [int(rng.choice(part)) for part in np.array_split(order, count) if len(part)]


def predict_device(features: Array, known: Array, references: Sequence[int], log_times: Array) -> Array:
    """log(time) of every point on the new device, [points].

    Args:
        features: [points, columns] of :class:`fettle.costmodel.columns.ScheduleColumns`.
        known: [points, devices], log(time) on the known devices, all finite; no column if there are none.
        references: points measured on the new device.
        log_times: log(time) of the references there, all finite.

    Raises:
        ValueError: fewer than two references, or all equally fast.
    """
    if len(references) < 2 or np.ptp(log_times) == 0.0:
        raise ValueError("at least two reference points with different times are needed")
    places = list(references)
    offset = float(log_times.mean())
    scale = float(known.std(axis=0).mean()) if known.shape[1] else float(log_times.std())
    trend = _standardised(known)
    targets = (log_times - offset) / scale
    process = GaussianProcess(learn(features[places], targets, trend[places]), features, trend)
    process.extend(features[places], trend[places])
    return process.mean(targets) * scale + offset


def _standardised(known: Array) -> Array:
    if not known.shape[1]:
        return known
    return np.asarray((known - known.mean(axis=0)) / np.maximum(known.std(axis=0), 1e-12), np.float64)
