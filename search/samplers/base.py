"""What every sampler is: told how points turned out, it proposes others."""

from __future__ import annotations

import abc
from collections.abc import Callable, Collection, Sequence
from typing import ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.backends.spaces import Points
from fettle.costmodel.transfer import Prior
from fettle.search.samplers.joined import FrontPrior


@attrs.frozen(eq=False)
class Problem:
    """What is searched.

    Attributes:
        points: the space.
        default: number of the untuned choice, tried first by samplers that do not draw everything at random.
        prior: what is known from other devices or shapes; samplers without a model of their own ignore it.
        fronts: the same, with several objectives.
        features: what the backend's analysis says of points, columns of about 0 … 1, the schedule's values among them;
            None if it says nothing. Costs some 100 µs a point.
        lite: the points worth a look when trials are few (see :mod:`fettle.search.lite`); None: all are.
        objectives: how many values are minimised.
    """

    points: Points
    default: int = 0
    prior: Prior | None = None
    fronts: FrontPrior | None = None
    features: Callable[[Sequence[int]], NDArray[np.float64]] | None = None
    lite: Sequence[int] | None = None
    objectives: int = 1


@attrs.frozen
class Observation:
    """How a point turned out.

    Attributes:
        value: log(time / bound), infinity if the trial failed.
        others: logarithms of what else is minimised, in whatever unit; as many in every trial that did not fail.
    """

    index: int
    value: float
    others: tuple[float, ...] = ()


@attrs.frozen
class Proposal:
    """A point to try.

    Attributes:
        predicted, std: log(time / bound) expected of it, and the standard deviation; None if the sampler has no model,
            or not yet.
    """

    index: int
    predicted: float | None = None
    std: float | None = None


class Sampler(abc.ABC):
    """Proposes points that were not told yet, each at most once a call.

    What it proposes is a function of its seed and of what it was told, never of how often it was asked: a job that
    stops and resumes proposes what it would have proposed.
    """

    several: ClassVar[bool] = False
    """Whether it searches the Pareto front of several objectives by itself."""

    def __init__(self, problem: Problem, seed: int) -> None:
        self._problem = problem
        self._points = problem.points
        self._seed = seed
        self._told: dict[int, float] = {}

    def tell(self, observations: Sequence[Observation]) -> None:
        """Learn how points turned out."""
        for observation in observations:
            self._told[observation.index] = observation.value

    @abc.abstractmethod
    def propose(self, count: int) -> list[Proposal]:
        """At most ``count`` distinct unvisited points, most promising first if the sampler knows; fewer only when
        the space runs out."""

    @property
    def expected_gain(self) -> float | None:
        """Expected decrease of log(time) by the best of the points last proposed; None without a model."""
        return None

    def _rng(self) -> np.random.Generator:
        return np.random.default_rng((self._seed, len(self._told)))


SamplerFactory = Callable[[Problem, int], Sampler]
"""(problem, seed) -> sampler."""


def random_points(points: Points, rng: np.random.Generator, count: int, taken: Collection[int]) -> list[int]:
    """At most ``count`` random points that are not ``taken``, in random order."""
    drawn = [i for i in points.sample(rng, count + len(taken)) if i not in taken]
    return [drawn[i] for i in rng.permutation(len(drawn))[:count]]
