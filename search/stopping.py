"""When a workload has nothing more to gain."""

from __future__ import annotations

import math

import numpy as np

from fettle.backends.api import Basis, Record

LEAST_TRIALS = 32
"""Trials before which a model's word for it is not enough."""

_SHARE = 0.1
"""Of the noise of the best's time, below which an expected gain could not be told from none."""


def nothing_to_gain(expected_gain: float | None, best: Record | None, trials: int) -> bool:
    """Whether the best that the sampler expects of its next choice is far below what measurements can tell apart.

    Args:
        expected_gain: decrease of log(time), see :attr:`fettle.search.samplers.Sampler.expected_gain`.
        best: the fastest valid trial so far.
    """
    if expected_gain is None or best is None or trials < LEAST_TRIALS:
        return False
    return expected_gain < _SHARE * relative_noise(best)


def relative_noise(record: Record) -> float:
    """Standard error of a measured median, relative to it; 0 for times that were computed or looked up."""
    samples = record.measurement.samples
    if record.measurement.basis is not Basis.MEASURED or len(samples) < 2:
        return 0.0
    low, high = np.quantile(samples, [0.25, 0.75])
    deviation = float(high - low) / 1.349  # of a normal distribution with these quartiles
    return 1.2533 * deviation / math.sqrt(len(samples)) / record.measurement.time
