"""What a sampler's proposals cost beside the trials: seconds a candidate, and memory, in spaces of two sizes."""

from __future__ import annotations

import importlib
import itertools
import math
import time
import tracemalloc
from collections.abc import Callable, Iterator

import attrs
import numpy as np

from fettle.backends.api import Parameter, Space
from fettle.backends.spaces import Points, enumerate_space
from fettle.bench.search import Mark
from fettle.search.batches import BATCH
from fettle.search.samplers import DEFAULT, Observation, Problem, make_sampler

AIMS = {10**4: 0.020, 10**6: 0.100}
"""Points of a space -> seconds a candidate may take, in the mean."""

FAILURES = (0.0, 0.2)
_CHOICES = 10
_BEST = 6
_NOISE = 0.02
_LATE = ("lightgbm", "scipy.linalg", "scipy.optimize", "scipy.special")
"""Imported by a sampler when first needed, once a process."""


@attrs.frozen
class Overhead:
    """One search of a synthetic space.

    Attributes:
        points: of the space.
        failures: share of the trials that fail.
        batch: candidates proposed at a time.
        trials: of the whole search.
        mean, p95, longest: seconds of a proposal, divided by how many candidates it had.
        peak: most bytes that the sampler held at once.
    """

    points: int
    failures: float
    batch: int
    trials: int
    mean: float
    p95: float
    longest: float
    peak: int

    def mark(self) -> Mark:
        """The aim; only sizes of :data:`AIMS` have one."""
        aim = f"seconds a candidate, {self.batch} at a time, {self.points} points, {self.failures:.0%} failures"
        return Mark(aim, self.mean, AIMS[self.points], self.mean <= AIMS[self.points])


def bench_overhead(
    trials: int, show: Callable[[str], None] = lambda text: None, sampler: str = DEFAULT
) -> list[Overhead]:
    """Searches of that many trials, in batches as jobs make them, and one by one as ``fettle replay`` does."""
    for name in _LATE:
        importlib.import_module(name)
    found = []
    for points, failures, batch in itertools.product(AIMS, FAILURES, (BATCH, 1)):
        found.append(measure_overhead(points, failures, batch, trials, sampler))
        show(f"overhead: {points} points, {failures:.0%} failures, {batch} at a time")
    return found


def measure_overhead(points: int, failures: float, batch: int, trials: int, sampler: str = DEFAULT) -> Overhead:
    """One search for the times, and the same again for the memory, since counting that takes time.

    Args:
        points: a power of ten.
    """
    parameters = [Parameter.integers(name, 0, _CHOICES - 1) for name in "abcdefgh"[: round(math.log10(points))]]
    space = enumerate_space(Space(tuple(parameters)))
    seconds = np.array(list(_search(space, failures, batch, trials, sampler)))
    tracemalloc.start()
    try:
        for _ in _search(space, failures, batch, trials, sampler):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    p95 = float(np.quantile(seconds, 0.95))
    return Overhead(points, failures, batch, trials, float(seconds.mean()), p95, float(seconds.max()), peak)


def _search(space: Points, failures: float, batch: int, trials: int, sampler: str) -> Iterator[float]:
    """Seconds a candidate of each proposal."""
    searching = make_sampler(sampler, Problem(space), 0)
    told = 0
    while told < trials:
        begun = time.perf_counter()
        proposals = searching.propose(min(batch, trials - told))
        yield (time.perf_counter() - begun) / len(proposals)
        searching.tell([Observation(p.index, _log_time(space, p.index, failures)) for p in proposals])
        told += len(proposals)


def _log_time(space: Points, index: int, failures: float) -> float:
    """Some function with one valley, a little rough; half of the failures are where two parameters are large, half
    anywhere."""
    values = [int(v) for v in space[index].as_dict().values()]
    rng = np.random.default_rng(index)
    if rng.random() < failures / 2.0 or values[0] * values[1] > (_CHOICES - 1) ** 2 * (1.0 - failures):
        return math.inf
    return math.log(1.0 + sum(abs(value - _BEST) for value in values)) + _NOISE * rng.standard_normal()
