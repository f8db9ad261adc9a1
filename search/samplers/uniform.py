"""Chance, the measure of all samplers."""

from __future__ import annotations

from fettle.search.samplers.base import Proposal, Sampler, random_points


class RandomSampler(Sampler):
    """Uniform over the valid points."""

    def propose(self, count: int) -> list[Proposal]:
        return [Proposal(i) for i in random_points(self._points, self._rng(), count, self._told)]
