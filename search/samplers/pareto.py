"""Several objectives for any sampler."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.costmodel.transfer import Prior
from fettle.search.samplers.base import Observation, Problem, Proposal, Sampler, SamplerFactory
from fettle.search.samplers.joined import Frame

Array = NDArray[np.float64]

_FAN = 7
"""Trials after the default that are picked under as many weights, if there is a prior."""

_PRIOR_UNTIL = 24
"""Trials from which on the prior is not asked: sources that never tried some part of the space kept the search away
from it."""


def for_several(make: SamplerFactory, problem: Problem, seed: int) -> Sampler:
    """A sampler of the front of several objectives: what ``make`` makes if that can, else that under ParEGO."""
    sampler = make(problem, seed)
    return sampler if sampler.several else ParetoSampler(make, problem, seed)


class ParetoSampler(Sampler):
    """ParEGO (Knowles, 2006): whenever it is asked, objectives are joined into one by new random weights, and a new
    sampler that knows all trials under these weights proposes. Over time every trade-off has its turn.

    The joined value is the augmented Chebyshev distance from the ideal point, each objective (a logarithm) in units of
    its range over the present front. At first, trials elsewhere are a prior: joined by the same weights, each set from
    its own ideal point and in units of its own front.
    """

    def __init__(self, make: SamplerFactory, problem: Problem, seed: int) -> None:
        super().__init__(attrs.evolve(problem, prior=None, fronts=None, objectives=1), seed)
        self._make = make
        self._fronts = problem.fronts
        self._objectives = problem.objectives
        self._observations: list[Observation] = []

    def tell(self, observations: Sequence[Observation]) -> None:
        super().tell(observations)
        self._observations += observations

    def propose(self, count: int) -> list[Proposal]:
        weights = self._rng().dirichlet(np.ones(self._objectives))
        sampler = self._make(attrs.evolve(self._problem, prior=self._prior(weights)), self._seed)
        values = self._joined(weights)
        sampler.tell([Observation(o.index, v) for o, v in zip(self._observations, values, strict=True)])
        # what the inner sampler expects is of the joined value, not log(time / bound)
        return [Proposal(proposal.index) for proposal in sampler.propose(count)]

    def _prior(self, weights: Array) -> Prior | None:
        if self._fronts is None or len(self._told) >= _PRIOR_UNTIL:
            return None
        return self._fronts.under(weights) if len(self._told) > _FAN else self._fronts.fan(_FAN)

    def _joined(self, weights: Array) -> list[float]:
        """One value a trial, infinity for those that failed."""
        worked = np.array([np.isfinite(o.value) for o in self._observations], np.bool_)
        values = np.full(len(worked), np.inf)
        if worked.any():
            objectives = np.array([(o.value, *o.others) for o in self._observations if np.isfinite(o.value)])
            values[worked] = chebyshev(objectives, weights)
        return [float(value) for value in values]


def chebyshev(objectives: Array, weights: Array) -> Array:
    """Augmented weighted Chebyshev distance of trials from their ideal point, [trials] of [trials, objectives]."""
    return Frame.of(objectives).distance(objectives, weights)
