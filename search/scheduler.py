"""Shares a job's trials and time among its workloads: the next step goes to the one with the most to gain."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import attrs

from fettle.search.batches import BATCH
from fettle.search.gains import beliefs, expected_gain
from fettle.search.tuner import WorkloadTuner

_FEW = 3
"""Trials before the time left is estimated: of so many, one that is not like the others does not count."""


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
        :func:`~fettle.search.gains.expected_gain` gets a batch: a trial, or a second if time is what is short.
        """
        left = self._total - self.done
        open_tuners = [t for t in self._tuners if not t.exhausted]
        now = self._clock()
        until = self._deadline - self.reserve()
        if left <= 0 or not open_tuners or now >= until:
            return None
        new = [t for t in open_tuners if t.trials < BATCH]
        if new:
            tuner = max(new, key=lambda t: (-t.trials, t.count * t.bound.seconds))
            until = now + (until - now) / len(new)
            trials = min(BATCH - tuner.trials, math.ceil(left / len(new)))
        else:
            tuner = self._most_to_gain(open_tuners, until - now)
            trials = min(BATCH, left)
        pace = tuner.trial_seconds or self._pace()
        if pace and math.isfinite(until):
            trials = max(1, min(trials, int((until - now) / pace)))
        return Turn(tuner, trials, until)

    def _most_to_gain(self, tuners: Sequence[WorkloadTuner], seconds: float) -> WorkloadTuner:
        believed = dict(zip(self._tuners, beliefs(self._tuners), strict=True))
        pace = self._pace()
        time_is_short = pace is not None and (self.total - self.done) * pace > seconds

        def gain(tuner: WorkloadTuner) -> float:
            cost = (tuner.trial_seconds or pace or 1.0) if time_is_short else 1.0
            return expected_gain(tuner, believed[tuner]) / cost

        return max(tuners, key=gain)

    def reserve(self) -> float:
        """Seconds the finals of all workloads will take."""
        return sum(t.finals_seconds() for t in self._tuners)

    def eta(self) -> float | None:
        """Seconds left, finals included, if trials take as long as most of the last ones; None before there are a
        few."""
        pace = self._usual_pace()
        if pace is None:
            return None
        left = (self.total - self.done) * pace + self.reserve()
        return max(0.0, min(left, self._deadline - self._clock()))

    def _usual_pace(self) -> float | None:
        """Seconds that most of the last trials took, in the mean over the workloads that have begun."""
        if self.done < _FEW:
            return None
        usual = [seconds for t in self._tuners if (seconds := t.usual_seconds()) is not None]
        return sum(usual) / len(usual)

    def _pace(self) -> float | None:
        """Seconds a trial takes, in the mean over the workloads that have begun."""
        paced = [t.trial_seconds for t in self._tuners if t.trial_seconds is not None]
        return sum(paced) / len(paced) if paced else None
