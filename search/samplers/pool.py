"""The points a model-based sampler looks at: all of a small space, else random ones and those near the best."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fettle.backends.spaces import Points
from fettle.search.samplers.base import random_points

WHOLE = 16384
"""Spaces of at most this many points are looked at whole."""

_RANDOM = 4096
_NEIGHBOURS_OF = 6
_NEAREST = 128
"""Neighbours of a point that are looked at."""

_SECOND_STEPS = 8
"""Of each of the best few, how many random neighbours have their neighbours looked at too."""


def candidates(points: Points, told: Mapping[int, float], rng: np.random.Generator) -> list[int]:
    """Numbers of points to rank, without repeats; those told may be among them."""
    if points.size <= WHOLE:
        return list(range(points.size))
    found = dict.fromkeys(random_points(points, rng, _RANDOM, told))
    best = sorted(told, key=lambda index: (told[index], index))[:_NEIGHBOURS_OF]
    near = [points.neighbours(index)[:_NEAREST] for index in best]
    second = [n[at] for n in near for at in rng.permutation(len(n))[:_SECOND_STEPS].tolist()]
    for neighbours in [*near, *(points.neighbours(index)[:_NEAREST] for index in second)]:
        found |= dict.fromkeys(neighbours)
    return list(found)
