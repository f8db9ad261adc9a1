"""A first batch that covers a space."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fettle.backends.spaces import Points
from fettle.search.geometry import Geometry
from fettle.search.samplers.base import random_points

_POOL = 384


def covering(
    points: Points, chosen: Sequence[int], count: int, rng: np.random.Generator, among: Sequence[int] | None = None
) -> list[int]:
    """``chosen``, then repeatedly the point that brings a random pool (or ``among``) closest to the chosen ones in the
    mean, until there are ``count``, or the pool runs out.

    Such medoids cover the inside of the space; the points farthest from each other are its corners, where tiles are
    extreme and kernels slow.
    """
    geometry = Geometry(points)
    if among is None:
        pool = random_points(points, rng, _POOL, chosen)
    else:
        pool = [index for index in among if index not in chosen]
    ranks = geometry.place(pool)
    apart = geometry.distances(ranks, ranks)
    nearest = geometry.distances(geometry.place(chosen), ranks).min(axis=0)
    found: list[int] = []
    while len(chosen) + len(found) < count and len(found) < len(pool):
        reach = np.minimum(apart, nearest).sum(axis=1)
        reach[found] = np.inf
        at = int(np.argmin(reach))
        found.append(at)
        nearest = np.minimum(nearest, apart[at])
    return [*chosen, *(pool[at] for at in found)][:count]
