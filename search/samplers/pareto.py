"""Several objectives for any sampler."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.search.objectives import unbeaten
from fettle.search.samplers.base import Observation, Problem, Proposal, Sampler, SamplerFactory

Array = NDArray[np.float64]

_SUM = 0.05
"""Weight of the sum beside the maximum, so that of two points that are equal in the worst objective the better wins."""


def for_several(make: SamplerFactory, problem: Problem, seed: int) -> Sampler:
    """A sampler of the front of several objectives: what ``make`` makes if that can, else that under ParEGO."""
    sampler = make(problem, seed)
    return sampler if sampler.several else ParetoSampler(make, problem, seed)


class ParetoSampler(Sampler):
    """ParEGO (Knowles, 2006): whenever it is asked, objectives are joined into one by new random weights, and a new
    sampler that knows all trials under these weights proposes. Over time every trade-off has its turn.

    The joined value is the augmented Chebyshev distance from the ideal point, each objective (a logarithm) in units of
    its range over the present front. What is known of other devices is about times alone, and not used.
    """

    def __init__(self, make: SamplerFactory, problem: Problem, seed: int) -> None:
        super().__init__(attrs.evolve(problem, prior=None, objectives=1), seed)
        self._make = make
        self._observations: list[Observation] = []

    def tell(self, observations: Sequence[Observation]) -> None:
        super().tell(observations)
        self._observations += observations

    def propose(self, count: int) -> list[Proposal]:
        sampler = self._make(self._problem, self._seed)
        values = self._joined()
        sampler.tell([Observation(o.index, v) for o, v in zip(self._observations, values, strict=True)])
        # what the inner sampler expects is of the joined value, not log(time / bound)
        return [Proposal(proposal.index) for proposal in sampler.propose(count)]

    def _joined(self) -> list[float]:
        """One value a trial, infinity for those that failed."""
        worked = np.array([np.isfinite(o.value) for o in self._observations], np.bool_)
        values = np.full(len(worked), np.inf)
        if worked.any():
            objectives = np.array([(o.value, *o.others) for o in self._observations if np.isfinite(o.value)])
            weights = self._rng().dirichlet(np.ones(objectives.shape[1]))
            values[worked] = chebyshev(objectives, weights)
        return [float(value) for value in values]


def chebyshev(objectives: Array, weights: Array) -> Array:
    """Augmented weighted Chebyshev distance of trials from the ideal point, [trials] of [trials, objectives]."""
    front = objectives[unbeaten(objectives)]
    ideal = front.min(axis=0)
    span = front.max(axis=0) - ideal
    spread = objectives.std(axis=0)
    unit = np.where(span > 0.0, span, np.where(spread > 0.0, spread, 1.0))
    weighted = weights * (objectives - ideal) / unit
    return np.asarray(weighted.max(axis=1) + _SUM * weighted.sum(axis=1), np.float64)
