"""How good predictions were that a search made of its own trials, each before it was measured."""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.costmodel import metrics
from fettle.costmodel.conformal import COVERAGE, quantile

Array = NDArray[np.float64]

JUDGED = 2000
"""Trials that are looked at: pairs of them are compared, so that time grows with their square."""

_PICKS = 5
"""Trials of which the best is compared with the best of all."""


@attrs.frozen
class Foresight:
    """Figures over the trials that were predicted and measured, the latest :data:`JUDGED` of them; None where there are
    too few.

    A search tries what looks fast, so its trials are alike and harder to tell apart than random ones.

    Attributes:
        spearman, pairwise: see :mod:`fettle.costmodel.metrics`.
        top1_regret, top5_regret: how much slower the best of the one and the five most promising was than the best.
        coverage: share of the trials inside their 90 % interval, whose width was calibrated on earlier trials alone.
    """

    spearman: float | None = None
    pairwise: float | None = None
    top1_regret: float | None = None
    top5_regret: float | None = None
    coverage: float | None = None

    @classmethod
    def of(cls, predicted: Array, std: Array, actual: Array) -> Foresight:
        """Judge predictions.

        Args:
            predicted, std: [trials], log(time / bound) expected and its standard deviation (NaN if unknown), in the
                order of the trials.
            actual: [trials], what it was.
        """
        predicted, std, actual = predicted[-JUDGED:], std[-JUDGED:], actual[-JUDGED:]
        count = len(actual)
        if count == 0:
            return cls()
        return cls(
            spearman=metrics.spearman(predicted, actual),
            pairwise=metrics.pairwise_accuracy(predicted, actual),
            top1_regret=metrics.top_k_regret(predicted, actual, 1),
            top5_regret=metrics.top_k_regret(predicted, actual, _PICKS) if count >= _PICKS else None,
            coverage=_coverage(predicted, std, actual),
        )


def _coverage(predicted: Array, std: Array, actual: Array) -> float | None:
    """Each trial against the conformal quantile of the trials before it, where these suffice for one."""
    known = ~np.isnan(std)
    scores = np.abs(actual - predicted)[known] / std[known]
    widths = np.array([quantile(scores[:number], COVERAGE) for number in range(len(scores))])
    judged = np.isfinite(widths)
    return float(np.mean(scores[judged] <= widths[judged])) if judged.any() else None
