"""The hyperparameter lottery (ArchGym, 2306.08888): with few seeds any sampler may look best, so many are drawn.

Every sampler searches every recording from every seed with the same number of evaluations. What counts is the
distribution of optimum / best found, and how often each sampler is ahead of all others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from fettle.backends.replay import ReplayBackend
from fettle.backends.replay.backend import OPERATOR
from fettle.backends.replay.recording import Recording
from fettle.bench.search import recorded_devices
from fettle.graph.errors import InvalidArgument, Unsupported
from fettle.graph.workload import Workload
from fettle.search.explore import Evaluation, explore
from fettle.search.samplers import SAMPLERS
from fettle.store.parquet import Rows, arrow

BUDGETS = (25, 50, 100, 200)


@attrs.frozen(eq=False)
class Ticket:
    """One search from one seed.

    Attributes:
        ratios: optimum / best found after each evaluation; 0 before the first valid point. A search that ran out of
            points keeps its last.
    """

    space: str
    sampler: str
    seed: int
    evaluations: tuple[Evaluation, ...]
    ratios: tuple[float, ...]

    @classmethod
    def of(cls, space: str, sampler: str, seed: int, found: Sequence[Evaluation], recording: Recording) -> Ticket:
        best, ratios = math.inf, []
        for evaluation in found:
            objective = recording.rows[evaluation.point].objective
            best = min(best, math.inf if objective is None else objective)
            ratios.append(recording.optimum / best)
        return cls(space, sampler, seed, tuple(found), tuple(ratios))

    def ratio(self, budget: int) -> float:
        """Optimum / best found within a budget of evaluations."""
        return self.ratios[min(budget, len(self.ratios)) - 1]

    def rows(self) -> Rows:
        """One a evaluation, for :func:`schema`."""
        return [
            {
                "space": self.space,
                "sampler": self.sampler,
                "seed": self.seed,
                "evaluation": number,
                "point": evaluation.point,
                "outcome": evaluation.measurement.outcome.value,
                "time_s": evaluation.measurement.time if evaluation.measurement.ok else None,
                "ratio": ratio,
            }
            for number, (evaluation, ratio) in enumerate(zip(self.evaluations, self.ratios, strict=True), 1)
        ]


def schema() -> Any:
    """Columns of the exported evaluations. Raises Unsupported without pyarrow."""
    a = arrow()
    texts = {name: a.string() for name in ("space", "sampler", "outcome")}
    types = {**texts, "seed": a.int64(), "evaluation": a.int32(), "point": a.int64()}
    types |= {"time_s": a.float64(), "ratio": a.float64()}
    order = ("space", "sampler", "seed", "evaluation", "point", "outcome", "time_s", "ratio")
    return a.schema([(name, types[name]) for name in order])


@attrs.frozen
class Standing:
    """One sampler at one budget.

    Attributes:
        median, low, high: of the ratio over recordings and seeds; the quartiles.
        wins: share of (recording, seed) in which no sampler found a better schedule; ties are split.
    """

    sampler: str
    budget: int
    median: float
    low: float
    high: float
    wins: float


class Lottery:
    """Samplers on recordings.

    Raises:
        InvalidArgument: an unknown sampler, a budget below one, or two files of one name.
        NotFound, ResourceExhausted: a file cannot be read.
    """

    def __init__(self, files: Sequence[Path], samplers: Sequence[str], seeds: int, budgets: Sequence[int]) -> None:
        if unknown := [name for name in samplers if name not in SAMPLERS]:
            raise InvalidArgument(f"no sampler named {unknown[0][:64]!r}", hint=f"samplers: {' '.join(SAMPLERS)}")
        if not samplers or not budgets or min(budgets) < 1:
            raise InvalidArgument("a lottery needs samplers, and budgets of at least one evaluation")
        self._backend = ReplayBackend()
        self._devices = recorded_devices(self._backend, files)
        self.samplers = list(dict.fromkeys(samplers))
        self.seeds = seeds
        self.budgets = tuple(sorted(set(budgets)))
        self.missing: dict[str, str] = {}
        """Sampler -> why it cannot run here."""
        self._drawn: dict[tuple[str, int], dict[str, tuple[float, ...]]] = {}

    @property
    def searches(self) -> int:
        """How many there are in all, less those of samplers found missing so far."""
        return len(self._devices) * len(self.samplers) * self.seeds

    @property
    def rounds(self) -> int:
        """Pairs of recording and seed that all samplers have searched: what counts."""
        return len(self._complete())

    def draw(self) -> Iterator[Ticket]:
        """Search after search. Every sampler takes its turn before the next recording and seed, so that whoever stops
        in between has a fair comparison of what there is."""
        for seed in range(self.seeds):
            for space, device in self._devices.items():
                for sampler in tuple(self.samplers):
                    try:
                        found = explore(
                            self._backend,
                            Workload.of(OPERATOR),
                            device,
                            self.budgets[-1],
                            seed=seed,
                            sampler=sampler,
                        )
                    except Unsupported as problem:
                        self.missing[sampler] = str(problem)
                        self.samplers.remove(sampler)
                        continue
                    ticket = Ticket.of(space, sampler, seed, found, self._backend.recording(device))
                    ratios = tuple(ticket.ratio(budget) for budget in self.budgets)
                    self._drawn.setdefault((space, seed), {})[sampler] = ratios
                    yield ticket

    def standings(self) -> list[Standing]:
        """By budget, the sampler with the largest median first; of complete rounds only."""
        rounds = self._complete()
        if not rounds:
            return []
        found = []
        for at, budget in enumerate(self.budgets):
            ratios = np.array([[ratios[sampler][at] for sampler in self.samplers] for ratios in rounds])
            ahead = ratios == ratios.max(axis=1, keepdims=True)
            wins = (ahead / ahead.sum(axis=1, keepdims=True)).mean(axis=0)
            quartiles = np.quantile(ratios, (0.25, 0.5, 0.75), axis=0).T
            standings = [
                Standing(sampler, budget, float(median), float(low), float(high), float(share))
                for sampler, (low, median, high), share in zip(self.samplers, quartiles, wins, strict=True)
            ]
            found += sorted(standings, key=lambda s: -s.median)
        return found

    def _complete(self) -> list[Mapping[str, tuple[float, ...]]]:
        return [ratios for ratios in self._drawn.values() if all(s in ratios for s in self.samplers)]
