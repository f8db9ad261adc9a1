"""Which candidates come next, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fettle.backends.api import Record
from fettle.search.samplers import Observation, Proposal, Sampler
from fettle.search.stopping import nothing_to_gain
from fettle.search.trials import is_valid

BATCH = 8
"""Candidates chosen, and built in parallel, at a time."""


class Batches:
    """The proposals of a sampler, in batches.

    Batch number b is a function of the sampler's seed and of the first ``8·b`` records alone. So whoever has the
    records goes on exactly where they end, in the middle of a batch too, and no point is tried twice.

    Args:
        observe: what a record at a point tells the sampler.

    Attributes:
        settled: the sampler expects nothing more to gain.
    """

    def __init__(self, sampler: Sampler, observe: Callable[[int, Record], Observation]) -> None:
        self.settled = False
        self._sampler = sampler
        self._observe = observe
        self._told = 0
        self._batch: list[Proposal] = []
        self._number = -1

    @property
    def expected_gain(self) -> float | None:
        """Decrease of log(time) that is expected of the present batch's first trial; None without a model."""
        return self._sampler.expected_gain

    def pending(self, points: Sequence[int], records: Sequence[Record]) -> list[Proposal]:
        """What is left of the present batch, or the next one.

        Args:
            points: the point of each record.
        """
        number = len(records) // BATCH
        if number != self._number:
            self._number = number
            self._batch = self._next(points[: number * BATCH], records[: number * BATCH])
        visited = set(points)
        return [proposal for proposal in self._batch if proposal.index not in visited]

    def _next(self, points: Sequence[int], records: Sequence[Record]) -> list[Proposal]:
        history = [self._observe(point, record) for point, record in zip(points, records, strict=True)]
        self._sampler.tell(history[self._told :])
        self._told = len(history)
        batch = self._sampler.propose(BATCH)
        best = min((r for r in records if is_valid(r)), key=lambda r: r.measurement.time, default=None)
        self.settled = nothing_to_gain(self._sampler.expected_gain, best, len(records))
        return [] if self.settled else batch
