"""The points a model-based sampler looks at: all of a small space, else random ones and those near the best."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import numpy as np

from fettle.backends.spaces import Points

WHOLE = 16384
"""Spaces of at most this many points are looked at whole."""

_NEIGHBOURS_OF = 6
_NEAREST = 128
"""Neighbours of a point that are looked at."""


@attrs.frozen
class Reach:
    """How much of a space is looked at.

    Attributes:
        whole: spaces of at most this many points are looked at whole.
        random: random points of a larger one.
        second_steps: of each of the best few, how many random neighbours have their neighbours looked at too.
    """

    whole: int
    random: int
    second_steps: int


CHEAP = Reach(WHOLE, 4096, 8)
"""For points that cost microseconds."""

DEAR = Reach(2048, 2048, 2)
"""For points that a backend analyses."""


def candidates(points: Points, told: Mapping[int, float], rng: np.random.Generator, reach: Reach = CHEAP) -> list[int]:
    """Numbers of points to rank, without repeats; those told may be among them."""
    if points.size <= reach.whole:
        return list(range(points.size))
    found = dict.fromkeys(points.sample(rng, reach.random))
    best = sorted(told, key=lambda index: (told[index], index))[:_NEIGHBOURS_OF]
    near = [points.neighbours(index)[:_NEAREST] for index in best]
    second = [n[at] for n in near for at in rng.permutation(len(n))[: reach.second_steps].tolist()]
    for neighbours in [*near, *(points.neighbours(index)[:_NEAREST] for index in second)]:
        found |= dict.fromkeys(neighbours)
    return list(found)
