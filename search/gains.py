"""What more trials of a workload are expected to gain, and how far that expectation is to be believed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fettle.backends.api import Record
from fettle.search.batches import BATCH
from fettle.search.samplers.guided import expected_improvement
from fettle.search.trials import is_valid, undisturbed_seconds
from fettle.search.tuner import WorkloadTuner

_WINDOW = 2 * BATCH
"""Trials that count as recent."""

_CREDIT = 0.02
"""Decrease of log(time) that models may promise before it is held against them: about what noise makes of a time."""


def expected_gain(tuner: WorkloadTuner, belief: float = 1.0) -> float:
    """Seconds of the whole graph that one more batch may save.

    Where the workload's sampler has a model, what that expects of the next trial, for each trial of a batch, as far as
    it is believed, but no more than the gap to the roof::

        count · best · min(headroom, 1 - exp(-8 · belief · gain))

    with ``headroom`` = 1 - bound / best. Without one, after Ansor's gradient (2006.06762, §6)::

        count · best · (½ · recent + ½ · headroom / batches)

    with ``recent`` the relative gain of the last two batches and ``batches`` how many were spent on it: a gap that long
    resisted is likely to stay. Without any valid trial yet, ``best`` is the bound and ``headroom`` 1.

    Args:
        belief: see :func:`beliefs`.
    """
    batches = max(tuner.trials / BATCH, 1.0)
    best = tuner.best_s
    if best is None:
        return tuner.count * tuner.bound.seconds / batches / 2.0
    headroom = max(1.0 - tuner.bound.seconds / best, 0.0)
    gain = tuner.model_gain()
    if gain is not None:
        return tuner.count * best * min(headroom, -math.expm1(-BATCH * belief * gain))
    before = tuner.best_after(tuner.trials - _WINDOW) if tuner.trials > _WINDOW else None
    recent = 1.0 - best / before if before else 0.0
    return tuner.count * best * (recent + headroom / batches) / 2.0


def beliefs(tuners: Sequence[WorkloadTuner]) -> list[float]:
    """How far the model of each workload is to be believed, 0 … 1: what trials gained of what they were expected to.

    After a first batch a model knows little, and hopes for gains in every workload alike. But where one default is
    already the best of its space, those of its kind mostly are too: they come from the same rule. So promises and what
    came of them are added up over all workloads whose spaces have the same parameters.
    """
    kinds = [tuple(p.name for p in tuner.space.parameters) for tuner in tuners]
    promised, kept = dict.fromkeys(kinds, 0.0), dict.fromkeys(kinds, 0.0)
    for kind, tuner in zip(kinds, tuners, strict=True):
        expected, gained = track_record(tuner)
        promised[kind] += expected
        kept[kind] += gained
    return [min(1.0, (_CREDIT + kept[kind]) / (_CREDIT + promised[kind])) for kind in kinds]


def track_record(tuner: WorkloadTuner) -> tuple[float, float]:
    """Decrease of log(time) that predictions promised, each before its trial, and that these trials brought."""
    values = np.array([_log_time(record, tuner.bound.seconds) for record in tuner.records])
    before = np.minimum.accumulate(np.concatenate([[math.inf], values]))[:-1]
    means, stds = (
        np.array([getattr(record, name) for record in tuner.records], np.float64)  # None becomes NaN
        for name in ("predicted", "predicted_std")
    )
    judged = np.isfinite(means) & np.isfinite(before)
    promised = expected_improvement(means[judged], stds[judged], before[judged])
    return float(promised.sum()), float(np.maximum(before[judged] - values[judged], 0.0).sum())


def _log_time(record: Record, bound: float) -> float:
    return math.log(undisturbed_seconds(record) / bound) if is_valid(record) else math.inf
