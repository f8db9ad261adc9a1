"""Searches for the trade-offs of time and energy on recordings that tell both, with and without trials elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
import numpy as np

from fettle.backends.api import Device
from fettle.backends.replay import ReplayBackend
from fettle.backends.replay.backend import OPERATOR
from fettle.backends.replay.recording import Recording
from fettle.backends.spaces import enumerate_space
from fettle.bench.metrics import dominated_area
from fettle.bench.search import recorded_devices, same_kernel
from fettle.costmodel.transfer import Trials
from fettle.graph.errors import InvalidArgument
from fettle.graph.workload import Workload
from fettle.search.batches import BATCH
from fettle.search.explore import explore
from fettle.search.samplers import DEFAULT, SAMPLERS, Observation, Problem
from fettle.search.samplers.joined import make_front_prior
from fettle.search.samplers.pareto import for_several

MARKS = (8, 20, 50)
"""Trials after which a search is judged."""

WARM = f"{DEFAULT} warm"
SEARCHERS = (DEFAULT, "nsga2", "random")

_MARGIN = 0.1
"""By how much, in logarithms, the corner below which areas are counted is worse than the worst point."""

Figures = tuple[float, float] | None
"""log(time) and log(energy) of a point; None if it failed or its energy is not told."""


@attrs.frozen
class FrontRow:
    """Searches of one recording by one searcher.

    Attributes:
        sources: how many other recordings it knew trials of.
        shares: after each of :data:`MARKS`, the area that what it found dominates, as a share of what the whole space
            dominates; mean over seeds.
        errors: standard errors of these means; 0 with one seed.
    """

    space: str
    searcher: str
    sources: int
    shares: tuple[float, ...]
    errors: tuple[float, ...]


def bench_fronts(
    files: Sequence[Path], known: int, drawn: bool, seeds: int, show: Callable[[str], None] = lambda text: None
) -> list[FrontRow]:
    """Every recording that tells energies, with the seeds 0 … seeds-1, in batches as jobs make them.

    Args:
        known: trials of each other recording of the same parameters, as a search for the shortest time leaves them.
        drawn: they are random instead.

    Raises:
        InvalidArgument: no recording tells energies, or two files of one name.
        NotFound, ResourceExhausted: a file cannot be read.
    """
    backend = ReplayBackend()
    devices = recorded_devices(backend, files)
    told = {title: device for title, device in devices.items() if any(_figures(backend.recording(device)))}
    if not told:
        raise InvalidArgument(
            "no recording tells energies", hint="fettle costmodel record WORKLOAD --device npu:systolic -o FILE"
        )
    tried = {
        title: _trials(backend, device, known, "random" if drawn else DEFAULT) if len(told) > 1 else None
        for title, device in told.items()
    }
    rows = []
    for title, device in told.items():
        recording = backend.recording(device)
        points, figures = enumerate_space(recording.space), _figures(recording)
        sources = [
            trials
            for other, trials in tried.items()
            if other != title and trials is not None and same_kernel(recording, backend.recording(told[other]))
        ]
        problem = Problem(points, recording.first_valid, objectives=2)
        problems = {name: (name, problem) for name in SEARCHERS}
        if fronts := make_front_prior(points, sources, 2):
            problems[WARM] = DEFAULT, attrs.evolve(problem, fronts=fronts)
        for searcher, (sampler, searched) in problems.items():
            shares = np.array([_shares(figures, _search(searched, figures, sampler, seed)) for seed in range(seeds)])
            errors = shares.std(axis=0, ddof=1) / math.sqrt(seeds) if seeds > 1 else np.zeros(len(MARKS))
            number = len(sources) if searcher == WARM else 0
            rows.append(FrontRow(title, searcher, number, tuple(shares.mean(axis=0)), tuple(errors)))
            show(f"{title}: {searcher}")
    return rows


def _figures(recording: Recording) -> list[Figures]:
    """Of every row."""
    return [
        None if row.objective is None or not row.energy else (math.log(row.objective), math.log(row.energy))
        for row in recording.rows
    ]


def _trials(backend: ReplayBackend, device: Device, count: int, sampler: str) -> Trials:
    """What a search for the shortest time leaves."""
    recording = backend.recording(device)
    found = explore(backend, Workload.of(OPERATOR), device, count, sampler=sampler)
    figures = _figures(recording)
    pairs = np.array([figures[one.point] or (math.inf, math.inf) for one in found])
    schedules = tuple(recording.schedule(one.point) for one in found)
    return Trials(schedules, pairs[:, 0], others=(pairs[:, 1],))


def _search(problem: Problem, figures: Sequence[Figures], name: str, seed: int) -> list[Figures]:
    """What was found, trial by trial."""
    sampler = for_several(SAMPLERS[name], problem, seed)
    found: list[Figures] = []
    while len(found) < MARKS[-1]:
        tried = [proposal.index for proposal in sampler.propose(BATCH)]
        if not tried:
            break
        sampler.tell([_observation(index, figures[index]) for index in tried])
        found += [figures[index] for index in tried]
    return found


def _observation(index: int, figures: Figures) -> Observation:
    return Observation(index, math.inf) if figures is None else Observation(index, figures[0], figures[1:])


def _shares(figures: Sequence[Figures], found: Sequence[Figures]) -> list[float]:
    """See :class:`FrontRow`."""
    everything = [pair for pair in figures if pair is not None]
    corner = max(time for time, _ in everything) + _MARGIN, max(energy for _, energy in everything) + _MARGIN
    whole = dominated_area(everything, corner)
    return [dominated_area([pair for pair in found[:mark] if pair is not None], corner) / whole for mark in MARKS]
