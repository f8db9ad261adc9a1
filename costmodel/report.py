"""How good the cost model is on recorded trials it did not see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.costmodel import metrics
from fettle.costmodel.conformal import COVERAGE
from fettle.costmodel.features import ANALYTIC
from fettle.costmodel.model import CostModel

Array = NDArray[np.float64]

TRAINED_ON = 64
LEAST_TRIALS = 24
"""Valid trials without which nothing is said."""

SPLITS = 5


@attrs.frozen
class Quality:
    """Means over random splits of trials into known and unseen ones.

    Attributes:
        trained_on, judged_on: trials of each kind.
        spearman, pairwise: see :mod:`fettle.costmodel.metrics`; None if all unseen trials are equal.
        top1_regret, top5_regret: of the unseen trials.
        coverage: share of the unseen trials inside their 90 % interval.
    """

    trained_on: int
    judged_on: int
    spearman: float | None
    pairwise: float | None
    top1_regret: float
    top5_regret: float
    coverage: float


def feature_matrix(trials: Sequence[Mapping[str, float]]) -> tuple[tuple[str, ...], Array]:
    """All names, sorted, and [trials, names]; NaN where a trial lacks one."""
    names = tuple(sorted({name for features in trials for name in features}))
    rows = [[features.get(name, np.nan) for name in names] for features in trials]
    return names, np.array(rows, np.float64).reshape(len(trials), len(names))


def judge(
    names: Sequence[str],
    features: Array,
    log_times: Array,
    *,
    trained_on: int = TRAINED_ON,
    splits: int = SPLITS,
    seed: int = 0,
) -> Quality | None:
    """Fit on random trials and predict the rest, a few times; None if there are too few.

    Args:
        names: of the columns.
        features: [trials, columns] of valid trials; NaN is missing.
        log_times: [trials], log(time) up to a constant.
        trained_on: how many are known; at most three quarters of all.
        splits: how often; the figures are means.
    """
    count = len(log_times)
    if count < LEAST_TRIALS or np.ptp(log_times) == 0.0:
        return None
    known = min(trained_on, 3 * count // 4)
    found = []
    for split in range(splits):
        order = np.random.default_rng((seed, split)).permutation(count)
        train, test = order[:known], order[known:]
        model = CostModel(seed, analytic=analytic_column(names))
        if model.fit(features[train], log_times[train]):
            found.append(_quality(model, features[test], log_times[test], known))
    return _mean(found) if found else None


def analytic_column(names: Sequence[str]) -> int | None:
    """Where the backend's estimate is among features, if it is."""
    return list(names).index(ANALYTIC) if ANALYTIC in names else None


def _quality(model: CostModel, features: Array, log_times: Array, known: int) -> Quality:
    prediction = model.predict(features)
    low, high = prediction.interval(model.width(COVERAGE))
    mean = prediction.mean
    return Quality(
        trained_on=known,
        judged_on=len(log_times),
        spearman=metrics.spearman(mean, log_times),
        pairwise=metrics.pairwise_accuracy(mean, log_times),
        top1_regret=metrics.top_k_regret(mean, log_times, 1),
        top5_regret=metrics.top_k_regret(mean, log_times, 5),
        coverage=float(np.mean((low <= log_times) & (log_times <= high))),
    )


def _mean(found: Sequence[Quality]) -> Quality:
    def known(values: Sequence[float | None]) -> float | None:
        present = [value for value in values if value is not None]
        return float(np.mean(present)) if present else None

    return Quality(
        trained_on=found[0].trained_on,
        judged_on=found[0].judged_on,
        spearman=known([q.spearman for q in found]),
        pairwise=known([q.pairwise for q in found]),
        top1_regret=float(np.mean([q.top1_regret for q in found])),
        top5_regret=float(np.mean([q.top5_regret for q in found])),
        coverage=float(np.mean([q.coverage for q in found])),
    )
