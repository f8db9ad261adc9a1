"""Shares a job's trials and time among its workloads: the next step goes to the one with the most to gain."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import attrs

from fettle.search.tuner import BATCH, WorkloadTuner

_WINDOW = 2 * BATCH
"""Trials that count as recent."""


@attrs.frozen(eq=False)
class Turn:
    """A step to take: which workload, at most how many trials, and when none should begin any more (clock seconds)."""

    tuner: WorkloadTuner
    trials: int
    until: float


class Scheduler:
    """Decides whose turn it is.

    Args:
        total: trials of the whole job, earlier ones included.
        deadline: clock seconds at which the job must be over, finals included; infinity for none.
    """

    def __init__(
        self, tuners: Sequence[WorkloadTuner], total: int, deadline: float, clock: Callable[[], float]
    ) -> None:
        self._tuners = tuple(tuners)
        self._total = total
        self._deadline = deadline
        self._clock = clock

    @property
    def done(self) -> int:
        """Trials made so far."""
        return sum(t.trials for t in self._tuners)

    @property
    def total(self) -> int:
        """Trials that will have been made if time suffices: what the budget says, or all that the spaces hold."""
        left = self._total - self.done
        return self.done + min(left, sum(t.points.size - t.trials for t in self._tuners if not t.exhausted))

    def next(self) -> Turn | None:
        """The next turn, or None when trials, time or spaces are used up.

        Every workload gets a first batch, within its share of trials and time: the one with the fewest trials first,
        among equals the weightiest (times it occurs · bound). After that, the one of the largest
        :func:`expected_gain` gets a batch.
        """
        left = self._total - self.done
        open_tuners = [t for t in self._tuners if not t.exhausted]
        now = self._clock()
        until = self._deadline - self.reserve()
        if left <= 0 or not open_tuners or now >= until:
            return None
        cold = [t for t in open_tuners if t.trials < BATCH]
        if cold:
            tuner = max(cold, key=lambda t: (-t.trials, t.count * t.bound.seconds))
            until = now + (until - now) / len(cold)
            trials = min(BATCH - tuner.trials, math.ceil(left / len(cold)))
        else:
            tuner = max(open_tuners, key=expected_gain)
            trials = min(BATCH, left)
        pace = tuner.trial_seconds or self._pace()
        if pace and math.isfinite(until):
            trials = max(1, min(trials, int((until - now) / pace)))
        return Turn(tuner, trials, until)

    def reserve(self) -> float:
        """Seconds the finals of all workloads will take."""
        return sum(t.finals_seconds() for t in self._tuners)

    def eta(self) -> float | None:
        """Seconds left, finals included, at the present pace; None before the first trial."""
        pace = self._pace()
        if pace is None:
            return None
        left = (self.total - self.done) * pace + self.reserve()
        return max(0.0, min(left, self._deadline - self._clock()))

    def _pace(self) -> float | None:
        """Seconds a trial takes, in the mean over the workloads that have begun."""
        paced = [t.trial_seconds for t in self._tuners if t.trial_seconds is not None]
        return sum(paced) / len(paced) if paced else None


def expected_gain(tuner: WorkloadTuner) -> float:
    """Seconds of the whole graph that one more batch may save.

    Where the workload's sampler has a model, what that expects of the next trial, for each trial of a batch, but no
    more than the gap to the roof::

        count · best · min(headroom, 1 - exp(-8 · gain))

    with ``headroom`` = 1 - bound / best. Without one, after Ansor's gradient (2006.06762, §6)::

        count · best · (½ · recent + ½ · headroom / batches)

    with ``recent`` the relative gain of the last two batches and ``batches`` how many were spent on it: a gap that long
    resisted is likely to stay. Without any valid trial yet, ``best`` is the bound and ``headroom`` 1.
    """
    batches = max(tuner.trials / BATCH, 1.0)
    best = tuner.best_s
    if best is None:
        return tuner.count * tuner.bound.seconds / batches / 2.0
    headroom = max(1.0 - tuner.bound.seconds / best, 0.0)
    gain = tuner.model_gain()
    if gain is not None:
        return tuner.count * best * min(headroom, -math.expm1(-BATCH * gain))
    before = tuner.best_after(tuner.trials - _WINDOW) if tuner.trials > _WINDOW else None
    recent = 1.0 - best / before if before else 0.0
    return tuner.count * best * (recent + headroom / batches) / 2.0
