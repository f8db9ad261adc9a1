"""Samplers propose points of a space, given how the points tried so far turned out.

What a sampler proposes is a function of its seed and of what it was told, never of how often it was asked:
a job that stops and resumes proposes what it would have proposed.
"""

from __future__ import annotations

import abc
import warnings
from collections.abc import Sequence

import attrs
import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from fettle.backends.api import Schedule
from fettle.backends.spaces import Points
from fettle.search.geometry import Geometry

_REPAIR_POOL = 4096
"""Random valid points among which the nearest to an invalid proposal is sought (all of a space this small)."""


@attrs.frozen
class Observation:
    """How a point turned out: ``value`` is log(time / bound), infinity if the trial failed."""

    index: int
    value: float


class Sampler(abc.ABC):
    """Proposes points that were not told yet, each at most once a call."""

    def __init__(self, points: Points, seed: int) -> None:
        self._points = points
        self._seed = seed
        self._told: dict[int, float] = {}

    def tell(self, observations: Sequence[Observation]) -> None:
        """Learn how points turned out."""
        for observation in observations:
            self._told[observation.index] = observation.value

    @abc.abstractmethod
    def propose(self, count: int) -> list[int]:
        """At most ``count`` distinct unvisited points, most promising first if the sampler knows; fewer only when
        the space runs out."""

    def _rng(self) -> np.random.Generator:
        return np.random.default_rng((self._seed, len(self._told)))


class RandomSampler(Sampler):
    """Uniform over the valid points."""

    def propose(self, count: int) -> list[int]:
        return random_points(self._points, self._rng(), count, self._told)


class OptunaTpeSampler(Sampler):
    """Multivariate tree-structured Parzen estimator (Bergstra et al., NIPS 2011; Watanabe, 2304.11127) of Optuna.

    Optuna sees the ranks of the choices as independent integers or categories, without the constraints; a proposal
    that is invalid or taken moves to the nearest valid point that is free.
    """

    def __init__(self, points: Points, seed: int, geometry: Geometry | None = None) -> None:
        super().__init__(points, seed)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._geometry = geometry or Geometry(points)
        self._study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
        self._distributions: dict[str, BaseDistribution] = {
            p.name: IntDistribution(0, len(p.choices) - 1)
            if p.is_numeric
            else CategoricalDistribution(tuple(range(len(p.choices))))
            for p in points.space.parameters
        }

    def tell(self, observations: Sequence[Observation]) -> None:
        super().tell(observations)
        ranks = self._geometry.place([o.index for o in observations])
        for row, observation in zip(ranks, observations, strict=True):
            params = dict(zip(self._distributions, row.astype(int).tolist(), strict=True))
            self._study.add_trial(
                create_trial(params=params, distributions=self._distributions, value=observation.value)
            )

    def propose(self, count: int) -> list[int]:
        count = min(count, self._points.size - len(self._told))
        rng = self._rng()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study.sampler = optuna.samplers.TPESampler(
                seed=int(rng.integers(2**31)), multivariate=True, constant_liar=True, n_startup_trials=1
            )
        asked = [self._study.ask(self._distributions) for _ in range(count)]
        wanted = np.array([[t.params[name] for name in self._distributions] for t in asked], np.float64)
        for trial in asked:  # asked only for a proposal: what is measured is told as a trial of its own
            self._study.tell(trial, state=TrialState.FAIL)
        return self._repair(wanted.reshape(count, len(self._distributions)), rng)

    def _repair(self, wanted: np.ndarray, rng: np.random.Generator) -> list[int]:
        """The nearest free valid points of rows of ranks."""
        pool = random_points(self._points, rng, _REPAIR_POOL, self._told)
        distances = self._geometry.distances(wanted, self._geometry.place(pool))
        parameters = self._points.space.parameters
        proposed: list[int] = []
        for row, away in zip(wanted.astype(int).tolist(), distances, strict=True):
            values = {p.name: p.choices[rank] for p, rank in zip(parameters, row, strict=True)}
            index = self._points.index(Schedule(tuple(values.items())))
            if index is None or index in self._told or index in proposed:
                index = next((pool[i] for i in np.argsort(away, kind="stable") if pool[i] not in proposed), None)
            if index is not None:
                proposed.append(index)
        return proposed


def random_points(
    points: Points, rng: np.random.Generator, count: int, taken: dict[int, float] | set[int]
) -> list[int]:
    """At most ``count`` random points that are not ``taken``, in random order."""
    drawn = [i for i in points.sample(rng, count + len(taken)) if i not in taken]
    return [drawn[i] for i in rng.permutation(len(drawn))[:count]]
