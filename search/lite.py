"""The part of a space that is worth a few trials: what the backend's analysis expects most of."""

from __future__ import annotations

import numpy as np

from fettle.backends.spaces import Points
from fettle.costmodel.features import ANALYTIC, Featurizer

FEW_TRIALS = 30
"""Trials a workload up to which only this part is searched; what ``--quick`` gives."""

_DRAWN = 2048
"""Random points that are analysed of a larger space."""

_FOLLOWED = 32
"""Of them the most promising, whose neighbours are analysed too."""

_KEPT = 256


def lite(points: Points, featurizer: Featurizer) -> list[int] | None:
    """At most 256 points, the most promising first; None if the backend has no estimate of its schedules."""
    if ANALYTIC not in featurizer.names:
        return None
    column = featurizer.names.index(ANALYTIC)

    def ranked(indices: list[int]) -> list[int]:
        expected = featurizer.matrix(indices)[:, column]
        return [indices[at] for at in np.argsort(expected, kind="stable")]

    drawn = ranked(sorted(points.sample(np.random.default_rng(0), _DRAWN)))
    near = (neighbour for index in drawn[:_FOLLOWED] for neighbour in points.neighbours(index))
    return ranked(list(dict.fromkeys([*drawn[:_KEPT], *near])))[:_KEPT]
