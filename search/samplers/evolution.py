"""Evolution with tournament selection."""

from __future__ import annotations

import numpy as np

from fettle.backends.api import Schedule, Value
from fettle.search.samplers.base import Proposal, Sampler, random_points
from fettle.search.samplers.covering import covering

_POPULATION = 16
_TOURNAMENT = 3
_MUTATION = 0.15
"""Probability that a parameter is drawn anew."""

_ATTEMPTS = 50


class EvolutionarySampler(Sampler):
    """A steady-state genetic algorithm: parents are winners of small tournaments among the best points so far; a child
    has each parameter from either, or drawn anew (Goldberg and Deb, 1991; Syswerda, 1989)."""

    def propose(self, count: int) -> list[Proposal]:
        count = min(count, self._points.size - len(self._told))
        rng = self._rng()
        if len(self._told) < _POPULATION:
            first = covering(self._points, [self._problem.default], _POPULATION, np.random.default_rng(self._seed))
            found = [i for i in first if i not in self._told][:count]
        else:
            found = self._children(count, rng)
        taken = {*self._told, *found}
        return [Proposal(i) for i in [*found, *random_points(self._points, rng, count - len(found), taken)]]

    def _children(self, count: int, rng: np.random.Generator) -> list[int]:
        """New valid points; fewer if too many attempts gave none."""
        best = sorted(self._told, key=lambda index: (self._told[index], index))[:_POPULATION]
        found: list[int] = []
        for _ in range(_ATTEMPTS * count):
            if len(found) == count:
                break
            one, two = (self._points[best[min(rng.integers(len(best), size=_TOURNAMENT))]] for _ in range(2))
            index = self._points.index(self._cross(one, two, rng))
            if index is not None and index not in self._told and index not in found:
                found.append(index)
        return found

    def _cross(self, one: Schedule, two: Schedule, rng: np.random.Generator) -> Schedule:
        values: dict[str, Value] = {}
        for parameter in self._points.space.parameters:
            if rng.random() < _MUTATION:
                values[parameter.name] = parameter.choices[rng.integers(len(parameter.choices))]
            else:
                values[parameter.name] = (one if rng.random() < 0.5 else two)[parameter.name]
        return Schedule(tuple(values.items()))
