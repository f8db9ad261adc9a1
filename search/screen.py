"""Chooses what to build next: many proposals, ranked by the cost model, thinned to a small diverse batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.backends.spaces import Points
from fettle.costmodel.features import Featurizer
from fettle.costmodel.model import CostModel
from fettle.search.geometry import Geometry
from fettle.search.samplers import Observation, Sampler, random_points

Array = NDArray[np.float64]

SMALL_SPACE = 512
"""Spaces of at most this many valid points are screened whole."""

_FROM_SAMPLER = 12
_RANDOM = 256
_NEIGHBOURS_OF = 4
_SPACE_FILLING_POOL = 256
_LEAST_DIFFERENCE = 2


@attrs.frozen
class Proposal:
    """A point to build and measure, and the log(time / bound) expected of it (None before the first fit)."""

    index: int
    predicted: float | None = None


class Screen:
    """Turns the history of one workload into its next batch; a function of seed and history alone."""

    def __init__(self, points: Points, featurizer: Featurizer, sampler: Sampler, default: int, seed: int) -> None:
        self._points = points
        self._geometry = Geometry(points)
        self._featurizer = featurizer
        self._sampler = sampler
        self._default = default
        self._seed = seed
        self._told = 0

    def next_batch(self, history: Sequence[Observation], count: int) -> list[Proposal]:
        """At most ``count`` proposals of points that are not in ``history``, most promising first.

        The first batch is the default schedule and points that cover the space. Later ones maximise the
        expected improvement over the best so far (Jones et al., 1998) under the cost model, over the sampler's
        proposals, random points and the neighbours of the best few; two points of a batch differ in at least two
        parameters where possible, and the batch ends with the sampler's own first choice.
        """
        self._sampler.tell(history[self._told :])
        self._told = len(history)
        rng = np.random.default_rng((self._seed, len(history), 1))
        visited = {o.index for o in history}
        if not history:
            return [Proposal(i) for i in self._space_filling(rng, count)]
        model = CostModel(self._seed)
        targets = np.array([o.value for o in history])
        if not model.fit(self._featurizer.matrix([o.index for o in history]), targets):
            return [Proposal(i) for i in random_points(self._points, rng, count, visited)]
        proposed, pool = self._pool(history, visited, rng)
        prediction = model.predict(self._featurizer.matrix(pool))
        gain = expected_improvement(prediction.mean, prediction.std, float(targets.min()))
        chosen = self._diverse(pool, gain, proposed[:1], count)
        means = dict(zip(pool, prediction.mean.tolist(), strict=True))
        return [Proposal(i, means[i]) for i in chosen]

    def _pool(
        self, history: Sequence[Observation], visited: set[int], rng: np.random.Generator
    ) -> tuple[list[int], list[int]]:
        """The sampler's proposals, and everything to be ranked (they included); no repeats."""
        proposed = self._sampler.propose(_FROM_SAMPLER)
        if self._points.size <= SMALL_SPACE:
            return proposed, [i for i in range(self._points.size) if i not in visited]
        best = sorted(history, key=lambda o: o.value)[:_NEIGHBOURS_OF]
        near = [i for o in best for i in self._points.neighbours(o.index) if i not in visited]
        return proposed, list(dict.fromkeys([*proposed, *near, *random_points(self._points, rng, _RANDOM, visited)]))

    def _diverse(self, pool: list[int], gain: Array, reserved: list[int], count: int) -> list[int]:
        """Greedily the most gain first, at a distance from what is chosen as long as such points are left."""
        ranks = self._geometry.place(pool)
        order = np.argsort(-gain, kind="stable").tolist()
        last = [pool.index(i) for i in reserved]
        chosen: list[int] = []
        for least in (_LEAST_DIFFERENCE, 1):
            for at in order:
                if len(chosen) + len(last) >= count:
                    break
                taken = chosen + last
                if at not in taken and (not taken or self._geometry.hamming(ranks[[at]], ranks[taken]).min() >= least):
                    chosen.append(at)
        return [pool[at] for at in (chosen + last)[:count]]

    def _space_filling(self, rng: np.random.Generator, count: int) -> list[int]:
        """The default, then repeatedly the point that brings a random pool closest to the chosen ones in the mean.

        Such medoids cover the inside of the space; the points farthest from each other are its corners, where tiles
        are extreme and kernels slow.
        """
        pool = random_points(self._points, rng, _SPACE_FILLING_POOL, {self._default})
        ranks = self._geometry.place(pool)
        apart = self._geometry.distances(ranks, ranks)
        nearest = self._geometry.distances(self._geometry.place([self._default]), ranks)[0]
        chosen: list[int] = []
        while len(chosen) < min(count - 1, len(pool)):
            reach = np.minimum(apart, nearest).sum(axis=1)
            reach[chosen] = np.inf
            at = int(np.argmin(reach))
            chosen.append(at)
            nearest = np.minimum(nearest, apart[at])
        return [self._default, *(pool[at] for at in chosen)]


def expected_improvement(mean: Array, std: Array, best: float) -> Array:
    """E[max(best - Y, 0)] for Y normal; all in log(time / bound)."""
    z = (best - mean) / std
    density = np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    gain: Array = std * (z * _normal_cdf(z) + density)
    return gain


def _normal_cdf(z: Array) -> Array:
    from scipy.special import ndtr

    return np.asarray(ndtr(z), np.float64)
