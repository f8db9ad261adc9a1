"""Several objectives as one value, and trials elsewhere joined in the same way."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.backends.spaces import Points
from fettle.costmodel.columns import ScheduleColumns
from fettle.costmodel.metrics import normal_scores
from fettle.costmodel.transfer import Models, Prior, Source, Trials
from fettle.graph import codec
from fettle.search.objectives import unbeaten

Array = NDArray[np.float64]

_SUM = 0.05
"""Weight of the sum beside the maximum, so that of two points that are equal in the worst objective the better wins."""


@attrs.frozen(eq=False)
class Frame:
    """What distances of trials are measured from, and in which units.

    Attributes:
        ideal: [objectives], the best of each over the front.
        unit: [objectives], its range over the front; where that is nothing, its deviation over all trials.
    """

    ideal: Array
    unit: Array

    @classmethod
    def of(cls, objectives: Array) -> Frame:
        """The frame of trials, [trials, objectives], logarithms."""
        front = objectives[unbeaten(objectives)]
        ideal = front.min(axis=0)
        span, spread = front.max(axis=0) - ideal, objectives.std(axis=0)
        return cls(ideal, np.where(span > 0.0, span, np.where(spread > 0.0, spread, 1.0)))

    def distance(self, objectives: Array, weights: Array) -> Array:
        """Augmented weighted Chebyshev distance from the ideal point, [points] of [points, objectives]."""
        weighted = weights * (objectives - self.ideal) / self.unit
        return np.asarray(weighted.max(axis=1) + _SUM * weighted.sum(axis=1), np.float64)


class FrontSource:
    """One set of trials elsewhere as predictions of every objective; failures are as bad as the worst of each.

    Raises:
        ValueError: too few valid trials, or one objective is the same in all of them.
    """

    def __init__(self, columns: ScheduleColumns, trials: Trials, models: Models | None = None) -> None:
        figures = np.stack([trials.values, *trials.others], axis=1)
        self._parts = [
            Source(columns, Trials(trials.schedules, column, _origin(trials, number)), models, told_apart=1.0)
            for number, column in enumerate(figures.T)
        ]
        self.objectives = figures[np.isfinite(figures).all(axis=1)]
        self.frame = Frame.of(self.objectives)
        self._pool, self._expected = b"", np.empty((0, figures.shape[1]))

    def predict(self, places: Array) -> Array:
        """Logarithms of the objectives, [places, objectives].

        Those of the largest set of places so far, the sampler's pool, are remembered: weights change, they do not.

        Args:
            places: rows of :class:`ScheduleColumns`.
        """
        if len(places) < len(self._expected):
            return self._predict(places)
        if (pool := places.tobytes()) != self._pool:
            self._pool, self._expected = pool, self._predict(places)
        return self._expected

    def _predict(self, places: Array) -> Array:
        return np.stack([part.predict(places) + part.offset for part in self._parts], axis=1)


class JoinedSource:
    """A :class:`FrontSource` under weights: what :class:`fettle.costmodel.transfer.Source` is for one objective.

    It predicts where a point would rank among the source's trials, since what is near the ideal point in one shape
    need not be as near in another, and trials without a prior are compared by ranks too.
    """

    fast = None
    scale = 1.0

    def __init__(self, source: FrontSource, weights: Array) -> None:
        values = source.frame.distance(source.objectives, weights)
        order = np.argsort(values, kind="stable")
        scores = normal_scores(values)
        self._source, self._weights = source, weights
        self._values, self._scores = values[order], scores[order] / scores.std()

    def predict(self, places: Array) -> Array:
        """Normal scores with deviation 1, [points]."""
        joined = self._source.frame.distance(self._source.predict(places), self._weights)
        return np.asarray(np.interp(joined, self._values, self._scores), np.float64)


@attrs.frozen(eq=False)
class FrontPrior:
    """What is known of several objectives from elsewhere; at least one source."""

    sources: Sequence[FrontSource]

    def under(self, weights: Array) -> Prior:
        """The prior of trials that are joined by the same weights, [objectives]."""
        return Prior([JoinedSource(source, weights) for source in self.sources])

    def fan(self, count: int) -> Prior:
        """A prior whose picks spread over the front: ``count`` weights, or one for each source if these are more, with
        the sources in turn; each objective by itself, then random weights, the same ones always."""
        objectives = self.sources[0].objectives.shape[1]
        drawn = np.random.default_rng(0).dirichlet(np.ones(objectives), max(count, len(self.sources)))
        weights = np.concatenate([np.eye(objectives), drawn])[: len(drawn)]
        return Prior([JoinedSource(self.sources[at % len(self.sources)], row) for at, row in enumerate(weights)])


def make_front_prior(
    points: Points, known: Sequence[Trials], objectives: int, models: Models | None = None
) -> FrontPrior | None:
    """As :func:`fettle.costmodel.transfer.make_prior`, of those trials that tell so many objectives."""
    columns = ScheduleColumns(points.space)
    sources = []
    for trials in known:
        if 1 + len(trials.others) != objectives:
            continue
        try:
            sources.append(FrontSource(columns, trials, models))
        except ValueError:
            continue
    return FrontPrior(sources) if sources else None


def _origin(trials: Trials, number: int) -> str:
    """Under which the model of one objective is kept: not that of times alone, which are cut."""
    return codec.digest(("fettle.objective", trials.origin, number)) if trials.origin else ""
