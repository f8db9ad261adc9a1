"""Optuna's samplers over the ranks of the choices."""

from __future__ import annotations

import abc
import copy
import math
import sys
import warnings
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import create_trial

from fettle.backends.api import Schedule
from fettle.graph.errors import Unsupported
from fettle.search.geometry import Geometry
from fettle.search.samplers.base import Observation, Problem, Proposal, Sampler, random_points

_REPAIR_POOL = 4096
"""Random valid points among which the nearest to an invalid proposal is sought (all of a space this small)."""


class OptunaSampler(Sampler):
    """What all of them share.

    Optuna sees the ranks of the choices as independent integers or categories, without the constraints; a proposal
    that is invalid or taken moves to the nearest valid point that is free.
    """

    needs: ClassVar[str] = ""
    """Package beyond Optuna that the algorithm imports."""

    def __init__(self, problem: Problem, seed: int) -> None:
        super().__init__(problem, seed)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._geometry = Geometry(problem.points)
        self._study = optuna.create_study(
            sampler=optuna.samplers.RandomSampler(seed=seed), directions=["minimize"] * problem.objectives
        )
        self._distributions: dict[str, BaseDistribution] = {
            p.name: IntDistribution(0, len(p.choices) - 1)
            if p.is_numeric
            else CategoricalDistribution(tuple(range(len(p.choices))))
            for p in problem.points.space.parameters
        }
        self._make(0)  # fails here, not in the middle of a search, if something is missing

    @abc.abstractmethod
    def algorithm(self, seed: int) -> optuna.samplers.BaseSampler:
        """The sampler of Optuna.

        Raises:
            ImportError: an optional dependency of Optuna is missing.
        """

    def tell(self, observations: Sequence[Observation]) -> None:
        super().tell(observations)
        ranks = self._geometry.place([o.index for o in observations])
        for row, observation in zip(ranks, observations, strict=True):
            params = dict(zip(self._distributions, row.astype(int).tolist(), strict=True))
            self._study.add_trial(
                create_trial(params=params, distributions=self._distributions, value=observation.value)
            )

    def propose(self, count: int) -> list[Proposal]:
        count = min(count, self._points.size - len(self._told))
        rng = self._rng()
        study = copy.deepcopy(self._study)  # what is only asked for leaves no trace
        study.sampler = self.sampler_for(study, int(rng.integers(2**31)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            asked = [study.ask(self._distributions) for _ in range(count)]
        wanted = np.array([[t.params[name] for name in self._distributions] for t in asked], np.float64)
        return [Proposal(i) for i in self._repair(wanted.reshape(count, len(self._distributions)), rng)]

    def sampler_for(self, study: optuna.Study, seed: int) -> optuna.samplers.BaseSampler:
        """What proposes next: a new one, since everything that matters is in the trials."""
        return self._make(seed)

    def _make(self, seed: int) -> optuna.samplers.BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            try:
                return self.algorithm(seed)
            except ImportError as problem:
                raise Unsupported(
                    f"this sampler needs the package {self.needs}", hint=f"pip install {self.needs}"
                ) from problem

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


class TpeSampler(OptunaSampler):
    """Multivariate tree-structured Parzen estimator (Bergstra et al., NIPS 2011; Watanabe, 2304.11127)."""

    def algorithm(self, seed: int) -> optuna.samplers.BaseSampler:
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True, n_startup_trials=1)


class GpSampler(OptunaSampler):
    """Optuna's Gaussian process with expected improvement."""

    needs = "torch"

    def algorithm(self, seed: int) -> optuna.samplers.BaseSampler:
        import torch  # noqa: F401  # Optuna imports it at the first proposal

        return optuna.samplers.GPSampler(seed=seed, n_startup_trials=8)


class GenerationSampler(OptunaSampler):
    """Algorithms that keep generations: trials must be the ones they asked for themselves.

    So every observation, in order, is the value of the next point that the algorithm asks for, though repaired.
    """

    def __init__(self, problem: Problem, seed: int) -> None:
        super().__init__(problem, seed)
        self._study.sampler = self._make(seed)

    def tell(self, observations: Sequence[Observation]) -> None:
        Sampler.tell(self, observations)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for observation in observations:
                values = np.full(self._problem.objectives, sys.float_info.max)  # a failure is the worst, but a trial
                if math.isfinite(observation.value):
                    values[:] = (observation.value, *observation.others)[: len(values)]
                self._study.tell(self._study.ask(self._distributions), values.tolist())

    def sampler_for(self, study: optuna.Study, seed: int) -> optuna.samplers.BaseSampler:
        return study.sampler


class CmaEsSampler(GenerationSampler):
    """Covariance matrix adaptation (Hansen, 2016); categories are drawn at random."""

    needs = "cmaes"

    def algorithm(self, seed: int) -> optuna.samplers.BaseSampler:
        import cmaes  # noqa: F401  # as above

        return optuna.samplers.CmaEsSampler(seed=seed, n_startup_trials=8)


class Nsga2Sampler(GenerationSampler):
    """Elitist genetic algorithm (Deb et al., 2002); of several objectives by the rank of the fronts."""

    several = True

    def algorithm(self, seed: int) -> optuna.samplers.BaseSampler:
        return optuna.samplers.NSGAIISampler(seed=seed, population_size=20)
