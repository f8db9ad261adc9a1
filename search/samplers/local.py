"""Local search."""

from __future__ import annotations

import math

import numpy as np

from fettle.search.samplers.base import Proposal, Sampler, random_points

_CLIMBS = 3
"""Incumbents whose neighbourhoods are searched in turn."""


class LocalSampler(Sampler):
    """The untried Hamming-1 neighbours of the best few points, nearest first; random points where none are left.

    A point is the end of a climb when all its neighbours are tried; then the next best takes its turn.
    """

    def propose(self, count: int) -> list[Proposal]:
        count = min(count, self._points.size - len(self._told))
        rng = self._rng()
        found: list[int] = [] if self._told else [self._problem.default][:count]
        climbing = 0
        for index in sorted(self._told, key=lambda i: (self._told[i], i)):
            if climbing == _CLIMBS or len(found) >= count or not math.isfinite(self._told[index]):
                break
            near = [i for i in self._points.neighbours(index) if i not in self._told and i not in found]
            climbing += bool(near)
            found += [near[at] for at in _biased(rng, len(near))][: count - len(found)]
        taken = {*self._told, *found}
        return [Proposal(i) for i in [*found, *random_points(self._points, rng, count - len(found), taken)]]


def _biased(rng: np.random.Generator, count: int) -> list[int]:
    """A random order in which the first tend to come first: neighbours are listed nearest first."""
    order: list[int] = np.argsort(rng.random(count) * np.arange(1, count + 1), kind="stable").tolist()
    return order
