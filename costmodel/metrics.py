"""How good predictions are, judged on trials the model had not seen when it predicted them.

Only the order of schedules matters to a search, so all figures depend on the order of predictions, not on their scale.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def _pair(predicted: ArrayLike, actual: ArrayLike) -> tuple[Array, Array]:
    p, a = np.asarray(predicted, np.float64), np.asarray(actual, np.float64)
    if p.shape != a.shape or p.ndim != 1:
        raise ValueError(f"predictions {p.shape} and results {a.shape} are not two equally long vectors")
    return p, a


def ranks(values: ArrayLike) -> Array:
    """Ranks from 1; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean: Array = (last - (counts - 1) / 2.0)[inverse]
    return mean


def normal_scores(values: ArrayLike) -> Array:
    """What as many draws of a standard normal variable would be, about, in the order of the values (Blom, 1958);
    failures are the slowest, and alike."""
    from scipy.special import ndtri

    order = ranks(values)
    return np.asarray(ndtri((order - 0.5) / len(order)), np.float64)


def spearman(predicted: ArrayLike, actual: ArrayLike) -> float | None:
    """Rank correlation, -1 … 1; None for fewer than three trials or if either side is constant."""
    p, a = _pair(predicted, actual)
    if len(p) < 3 or np.ptp(p) == 0.0 or np.ptp(a) == 0.0:
        return None
    return float(np.corrcoef(ranks(p), ranks(a))[0, 1])


def pairwise_accuracy(predicted: ArrayLike, actual: ArrayLike) -> float | None:
    """Share of pairs with different results that are predicted in the right order; predicted ties count half.

    None if all results are equal.
    """
    p, a = _pair(predicted, actual)
    upper = np.triu_indices(len(p), 1)
    actual_sign = np.sign(a[:, None] - a)[upper]
    agreement = (actual_sign * np.sign(p[:, None] - p)[upper])[actual_sign != 0]
    return float(np.mean((agreement + 1.0) / 2.0)) if len(agreement) else None


def top_k_regret(predicted: ArrayLike, log_times: ArrayLike, k: int) -> float:
    """How much slower than the best the best of the ``k`` most promising is: 0.07 is 7 % slower.

    Args:
        predicted: smaller is more promising.
        log_times: natural logarithms of times (any common divisor cancels).
    """
    p, a = _pair(predicted, log_times)
    if not 1 <= k <= len(p):
        raise ValueError(f"top-{k} of {len(p)} trials")
    chosen = np.argsort(p, kind="stable")[:k]
    return float(np.expm1(a[chosen].min() - a.min()))
