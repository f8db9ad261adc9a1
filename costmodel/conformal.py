"""Split conformal prediction: intervals whose coverage does not depend on the model being right.

If scores |y - mean| / std of trials the model did not see are exchangeable with that of a new trial, the
⌈(n + 1) · coverage⌉-th smallest bounds the new one with at least that probability (Vovk et al., 2005).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

COVERAGE = 0.9
"""Of the intervals that are shown and judged."""


def quantile(scores: Array, coverage: float) -> float:
    """The bound of a new score; infinity if there are too few scores for this coverage.

    Raises:
        ValueError: coverage outside 0 … 1, both excluded.
    """
    if not 0.0 < coverage < 1.0:
        raise ValueError(f"coverage must be between 0 and 1, not {coverage}")
    rank = math.ceil((len(scores) + 1) * coverage)
    if rank > len(scores):
        return math.inf
    return float(np.sort(scores)[rank - 1])
