"""What is known of a space before its first trial: trials of the same operator on other devices or other shapes.

Every source predicts log(time) over the target's points in its own offset: recorded values where it has the very
schedule, a model of its trials elsewhere. How far each source is to be believed, and the offset, the first trials on
the target decide (see :mod:`fettle.costmodel.covariance`).
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from typing import Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.backends.api import Schedule
from fettle.backends.spaces import Points
from fettle.costmodel.columns import ScheduleColumns
from fettle.costmodel.files import SourceModel, dump_source, load_source
from fettle.costmodel.gaussian import GaussianProcess
from fettle.costmodel.likelihood import learn
from fettle.costmodel.newdevice import says_something
from fettle.costmodel.trees import BoostedTrees
from fettle.graph import codec
from fettle.graph.errors import DataLoss

_log = logging.getLogger(__name__)

Array = NDArray[np.float64]

_TREES_FROM = 200
"""Trials of a source from which on trees are its model: the cost of a Gaussian process grows with their cube."""

_FAST = 0.5
"""Share of a source's valid trials whose times are told apart."""

_SEED = 0


class TooFewTrials(ValueError):
    """There is nothing to learn from."""


@attrs.frozen(eq=False)
class Trials:
    """What was tried elsewhere.

    Attributes:
        schedules: of a space that need not be the target's.
        values: [trials], log(time / bound), infinity for a failure.
        others: logarithms of what else is minimised, each like ``values``.
        origin: 256-bit key of where that was, in hexadecimal, under which the model of these trials is kept; empty:
            it is not.
    """

    schedules: tuple[Schedule, ...]
    values: Array
    origin: str = ""
    others: tuple[Array, ...] = ()


class Models(Protocol):
    """Where fitted models are kept, by a 256-bit key in hexadecimal; a :class:`fettle.store.api.Store` is one."""

    def get_model(self, key: str) -> bytes | None: ...

    def put_model(self, key: str, data: bytes) -> None: ...


class Source:
    """One set of trials as predictions over a target's points.

    Args:
        models: where the model of these trials is taken from if it was fitted to the very same ones, and kept.
        told_apart: share of the valid trials above which times are cut off.

    Attributes:
        fast: log(time) above the best from which on times are cut off.
        scale, offset: standard deviation and mean of the cut log(time).

    Raises:
        TooFewTrials: it has nothing to say, see :func:`says_something`.
    """

    def __init__(
        self, columns: ScheduleColumns, trials: Trials, models: Models | None = None, told_apart: float = _FAST
    ) -> None:
        valid = trials.values[np.isfinite(trials.values)]
        if not says_something(valid):
            raise TooFewTrials(f"{len(valid)} valid trials, or all equally fast")
        limit = float(np.quantile(valid, told_apart))
        cut = np.minimum(trials.values, limit)
        self.fast = limit - float(valid.min())
        self.scale = float(cut.std())
        self.offset = float(cut.mean())
        self._columns = columns
        rows = columns.of(trials.schedules)
        self._exact = {row.tobytes(): float(value) for row, value in zip(rows, cut, strict=True)}
        self._rows, self._targets = rows, (cut - self.offset) / self.scale
        self._models = models if trials.origin else None
        self._key = codec.digest(("fettle.model", trials.origin, columns.key))

    def predict(self, places: Array) -> Array:
        """Cut log(time), [points], less its mean over the trials.

        Args:
            places: rows of :class:`ScheduleColumns`.
        """
        found = np.array([self._exact.get(row.tobytes(), np.nan) for row in places]) - self.offset
        unknown = np.isnan(found)
        if unknown.any():
            found[unknown] = self._model(places[unknown]) * self.scale
        return found

    def _model(self, places: Array) -> Array:
        if isinstance(self._fitted, BoostedTrees):
            return self._fitted.predict(places)[0]
        process = GaussianProcess(self._fitted, places)
        process.extend(self._rows)
        return process.mean(self._targets)

    @functools.cached_property
    def _fitted(self) -> SourceModel:
        """The kept model if its trials are unchanged; else a new one, which is kept."""
        trained_on = codec.digest(("fettle.trials", self._rows.shape, self._rows.tobytes(), self._targets.tobytes()))
        if self._models is not None and (kept := self._models.get_model(self._key)) is not None:
            try:
                fitted, fitted_to = load_source(kept)
                if fitted_to == trained_on:
                    return fitted
            except DataLoss as problem:
                _log.warning("fitted cost model %s again: %s", self._key[:12], problem)
        fitted = self._fit()
        if self._models is not None:
            self._models.put_model(self._key, dump_source(fitted, trained_on))
        return fitted

    def _fit(self) -> SourceModel:
        if len(self._rows) >= _TREES_FROM:
            return BoostedTrees.fit(self._rows, self._targets, _SEED)
        return learn(self._rows, self._targets)


class Expectation(Protocol):
    """What :class:`Prior` needs of a source; ``fast`` is None if it predicts normal scores of ranks, not log(time)."""

    @property
    def fast(self) -> float | None: ...

    @property
    def scale(self) -> float: ...

    def predict(self, places: Array) -> Array: ...


class Prior:
    """Several sources, and what they agree on.

    Attributes:
        fast: log(time) above the best up to which times are told apart: as in the sources, in the mean; None if these
            predict normal scores.
        scale: what their predictions are divided by, so that they vary by about 1.
    """

    def __init__(self, sources: Sequence[Expectation]) -> None:
        self._sources = tuple(sources)
        fast = [s.fast for s in sources if s.fast is not None]
        self.fast = float(np.mean(fast)) if fast else None
        self.scale = float(np.sqrt(np.mean([s.scale**2 for s in sources])))

    def trend(self, places: Array) -> Array:
        """[points, sources] of rows of the target's columns."""
        return np.stack([source.predict(places) for source in self._sources], axis=1) / self.scale

    def picks(self, trend: Array, count: int) -> list[int]:
        """Rows of ``trend`` to try first: the fastest in the mean, and of each source, in turn; no repeats."""
        orders = [np.argsort(trend.mean(axis=1), kind="stable")]
        orders += [np.argsort(column, kind="stable") for column in trend.T]
        found: list[int] = []
        for rank in range(len(trend)):
            for order in orders:
                if len(found) == count:
                    return found
                if int(order[rank]) not in found:
                    found.append(int(order[rank]))
        return found


def make_prior(points: Points, known: Sequence[Trials], models: Models | None = None) -> Prior | None:
    """The prior of a space from trials elsewhere; None if there is nothing to learn from them.

    Args:
        models: where fitted models are kept from one job to the next.
    """
    columns = ScheduleColumns(points.space)
    sources = []
    for trials in known:
        try:
            sources.append(Source(columns, trials, models))
        except TooFewTrials:
            continue
    return Prior(sources) if sources else None
