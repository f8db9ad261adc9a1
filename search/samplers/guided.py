"""Our own sampler: a model of the space says where the next trial is expected to gain most."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.costmodel.columns import ScheduleColumns
from fettle.costmodel.model import single_threaded
from fettle.costmodel.transfer import Prior
from fettle.search.geometry import Geometry
from fettle.search.samplers.base import Problem, Proposal, Sampler, random_points
from fettle.search.samplers.covering import covering
from fettle.search.samplers.pool import CHEAP, DEAR, candidates
from fettle.search.samplers.surrogate import Places, ProcessSurrogate, Surrogate, TreeSurrogate

Array = NDArray[np.float64]

START = 6
"""Trials before the first fit."""

STAGE, LONGEST_STAGE = 8, 32
"""Trials between two fits of the model: an eighth of them or fewer, since a fit costs more and changes less the more
there are. In between a Gaussian process is extended."""

TREES_FROM = 320
"""Trials from which on trees are used: a process's cost grows with their square."""

_PICKS = 7
"""Of the prior, tried before its model is asked."""

_PRIOR_UNTIL = 32
"""Trials from which on the prior is not asked: they say more of what is fast here than sources do, which kept searches
away from the best where they were wrong."""

_LEAST_DIFFERENCE = 2
"""Parameters in which two points of one batch differ, where possible."""


@attrs.define(eq=False)
class _Stage:
    """A fit to the first trials, what it knows from elsewhere, and how many trials it knows by now."""

    prior: Prior | None
    pool: list[int]
    places: Places
    position: dict[int, int]
    surrogate: Surrogate
    fitted: int
    known: int


class GuidedSampler(Sampler):
    """Bayesian optimisation over a discrete space (Jones et al., 1998).

    1. The default schedule, the picks of the prior if there is one, and points that cover the space.
    2. From then on the points of largest expected improvement, times the probability that they work at all, under a
       Gaussian process (trees for many trials) of the schedule's columns (or what the backend's analysis says of it)
       and the prior's expectations. All of a small space is looked at; of a large one random points, and the
       neighbours of the best and their neighbours; with few trials to come, only what analysis expects most of.
    3. Within a batch each point is taken for tried as predicted before the next is chosen, and two points differ in at
       least two parameters where possible.
    """

    def __init__(self, problem: Problem, seed: int) -> None:
        super().__init__(problem, seed)
        self._geometry = Geometry(problem.points)
        self._columns = ScheduleColumns(problem.points.space)
        self._reach = CHEAP if problem.features is None else DEAR
        self._whole: tuple[Prior | None, Places] | None = None
        self._stage: _Stage | None = None
        self._gain: float | None = None

    @property
    def expected_gain(self) -> float | None:
        return self._gain

    def propose(self, count: int) -> list[Proposal]:
        count = min(count, self._points.size - len(self._told))
        self._gain = None
        if len(self._told) < (START if self._problem.prior is None else 1 + _PICKS):
            return [Proposal(i) for i in self._start(count)]
        stage = self._present_stage()
        if stage is None:
            return [Proposal(i) for i in random_points(self._points, self._rng(), count, self._told)]
        with single_threaded():
            return self._most_promising(stage, count)

    def _start(self, count: int) -> list[int]:
        """What is left of the first trials."""
        rng = np.random.default_rng((self._seed, 0))
        chosen = [self._problem.default]
        if (prior := self._problem.prior) is not None:
            pool = self._pool({}, rng)
            picks = prior.picks(self._locate_pool(pool, prior).trend, _PICKS)
            chosen = list(dict.fromkeys([*chosen, *(pool[at] for at in picks)]))
        wanted = max(START, len(chosen), len(self._told) + count)
        chosen = covering(self._points, chosen, wanted, rng, self._problem.lite)
        return [i for i in chosen if i not in self._told][:count]

    def _present_stage(self) -> _Stage | None:
        """The fit that the present trials call for; None if there is too little to learn from."""
        count = len(self._told)
        length = max(STAGE, min(1 << (count.bit_length() - 4), LONGEST_STAGE)) if count >= STAGE else 1
        fitted = count - count % length
        if self._stage is None or self._stage.fitted != fitted:
            self._stage = self._fit(fitted)
        if self._stage is not None and self._stage.known < count:
            self._extend(self._stage, count)
        return self._stage

    def _fit(self, fitted: int) -> _Stage | None:
        told = dict(list(self._told.items())[:fitted])
        values = np.array(list(told.values()))
        valid = values[np.isfinite(values)]
        if len(valid) < 2 or np.ptp(valid) == 0.0:
            return None
        # analysing points takes time, so of a large space it is the same random ones again and again
        rng = np.random.default_rng((self._seed, fitted if self._problem.features is None else 0))
        pool = self._pool(told, rng)
        prior = self._problem.prior if fitted < _PRIOR_UNTIL else None
        places = self._locate_pool(pool, prior)
        trials = self._locate(list(told), prior)
        with single_threaded():
            if fitted >= TREES_FROM:
                surrogate: Surrogate = TreeSurrogate(trials, values, places, self._seed)
            elif prior is not None:
                surrogate = ProcessSurrogate(trials, values, places, prior.fast, prior.scale)
            else:
                surrogate = ProcessSurrogate(trials, values, places)
        return _Stage(prior, pool, places, {index: at for at, index in enumerate(pool)}, surrogate, fitted, fitted)

    def _extend(self, stage: _Stage, count: int) -> None:
        """One by one, so that rounding does not depend on how often proposals were asked for."""
        for index in list(self._told)[stage.known : count]:
            with single_threaded():
                stage.surrogate.add(self._locate([index], stage.prior), np.array([self._told[index]]))
        stage.known = count

    def _most_promising(self, stage: _Stage, count: int) -> list[Proposal]:
        values = np.array(list(self._told.values()))
        surrogate = stage.surrogate
        belief = surrogate.predict(values)
        std = belief.std
        feasible = surrogate.feasible()
        free = np.ones(len(stage.pool), np.bool_)
        free[[stage.position[i] for i in self._told if i in stage.position]] = False
        ranks = self._geometry.place(stage.pool) if count > 1 else np.empty((0, 0))
        apart = np.ones(len(stage.pool), np.bool_)
        chosen: list[int] = []
        while len(chosen) < count and free.any():
            gain = expected_improvement(belief.mean, std, belief.best) * feasible
            among = free & apart if (free & apart).any() else free
            at = int(np.argmax(np.where(among, gain, -1.0)))
            if not chosen:
                self._gain = float(gain[at]) * belief.per_unit
            chosen.append(at)
            free[at] = False
            if len(chosen) < count:
                apart &= self._geometry.hamming(ranks, ranks[[at]])[:, 0] >= _LEAST_DIFFERENCE
                surrogate = surrogate.pretend(at)
                std = surrogate.predict(values).std
        proposals = [Proposal(stage.pool[at], *belief.trial(at)) for at in chosen]
        if len(proposals) < count:  # a large space's pool ran out
            taken = {*self._told, *(p.index for p in proposals)}
            more = random_points(self._points, self._rng(), count - len(proposals), taken)
            proposals += [Proposal(i) for i in more]
        return proposals

    def _pool(self, told: Mapping[int, float], rng: np.random.Generator) -> list[int]:
        """The points to choose among; those told may be among them."""
        lite = self._problem.lite
        return candidates(self._points, told, rng, self._reach) if lite is None else list(lite)

    def _locate_pool(self, pool: list[int], prior: Prior | None) -> Places:
        """As :meth:`_locate`; a pool that is the whole space stays the same."""
        if len(pool) < self._points.size:
            return self._locate(pool, prior)
        if self._whole is None or self._whole[0] is not prior:
            self._whole = prior, self._locate(pool, prior)
        return self._whole[1]

    def _locate(self, indices: Sequence[int], prior: Prior | None) -> Places:
        columns = self._columns.matrix(self._points, indices)
        features = self._problem.features
        return Places(
            columns if features is None else features(indices),
            np.empty((len(indices), 0)) if prior is None else prior.trend(columns),
        )


def expected_improvement(mean: Array, std: Array, best: float | Array) -> Array:
    """E[max(best - Y, 0)] for Y normal; all in log(time / bound)."""
    from scipy.special import ndtr

    z = (best - mean) / std
    density = np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    gain: Array = std * (z * np.asarray(ndtr(z), np.float64) + density)
    return gain
