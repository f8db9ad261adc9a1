"""Samplers beside other tuners on recordings: how near the optimum after so many evaluations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs

from fettle.backends.api import Device, DeviceText
from fettle.backends.replay import ReplayBackend
from fettle.backends.replay.backend import OPERATOR
from fettle.backends.replay.recording import Recording
from fettle.bench.peers.kerneltuner import STRATEGIES, Simulation
from fettle.graph.errors import InvalidArgument, Unsupported
from fettle.graph.workload import Workload
from fettle.search.explore import explore, recorded_trials
from fettle.search.samplers import DEFAULT, SAMPLERS

MARKS = (20, 50, 100, 200)
"""Evaluations after which a search is judged."""

JUDGED = (50, 100, 200)
LEAD = 0.03
"""By how much ours must beat the best peer's mean at each of :data:`JUDGED`, unless it reaches :data:`ENOUGH`."""

ENOUGH = 0.98
WARM = f"{DEFAULT} warm"
WARM_MARK, WARM_GOAL = 20, 0.95
PEERS = ("tpe",)
"""Samplers of ours that are other people's algorithms with their defaults, hence peers."""


@attrs.frozen
class Run:
    """One search: optimum / best found at each of :data:`MARKS`, 0 before the first valid point."""

    space: str
    searcher: str
    seed: int
    ratios: tuple[float, ...]


@attrs.frozen
class Mark:
    """One aim, and whether it is met."""

    aim: str
    value: float
    target: float
    met: bool


@attrs.frozen(eq=False)
class SearchReport:
    """Every run, and what follows from them.

    Attributes:
        missing: searcher -> why it did not run.
    """

    runs: tuple[Run, ...]
    missing: Mapping[str, str]

    @property
    def spaces(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(run.space for run in self.runs))

    @property
    def searchers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(run.searcher for run in self.runs))

    def searchers_on(self, space: str) -> tuple[str, ...]:
        """Those that ran on a space: warm needs another recording of the same kernel."""
        return tuple(dict.fromkeys(run.searcher for run in self.runs if run.space == space))

    def mean(self, searcher: str, mark: int, space: str | None = None) -> float:
        """Mean over seeds, and over spaces without one."""
        at = MARKS.index(mark)
        found = [r.ratios[at] for r in self.runs if r.searcher == searcher and space in (None, r.space)]
        return math.fsum(found) / len(found)

    def marks(self) -> list[Mark]:
        """The aims: cold beside every peer, no space where ours is worst, warm."""
        peers = [s for s in self.searchers if s not in (DEFAULT, WARM)]
        marks = []
        for mark in JUDGED if DEFAULT in self.searchers else ():
            best = max((self.mean(p, mark) for p in peers), default=0.0)
            ours, target = self.mean(DEFAULT, mark), min(ENOUGH, best + LEAD)
            marks.append(Mark(f"cold, {mark} evaluations", ours, target, ours >= target))
            for space in self.spaces if peers else ():
                worst = min(self.mean(p, mark, space) for p in peers)
                ours = self.mean(DEFAULT, mark, space)
                marks.append(Mark(f"not the worst on {space}, {mark} evaluations", ours, worst, ours >= worst))
        if WARM in self.searchers:
            ours = self.mean(WARM, WARM_MARK)
            marks.append(Mark(f"warm, {WARM_MARK} evaluations", ours, WARM_GOAL, ours >= WARM_GOAL))
            warmed = {r.space for r in self.runs if r.searcher == WARM}
            for space in (s for s in self.spaces if s in warmed):
                ours, cold = self.mean(WARM, 100, space), self.mean(DEFAULT, 100, space)
                marks.append(Mark(f"warm as good as cold on {space}, 100 evaluations", ours, cold, ours >= cold))
        return marks


def compare(
    files: Sequence[Path], searchers: Sequence[str], seeds: int, show: Callable[[str], None] = lambda text: None
) -> SearchReport:
    """Every searcher on every recording with the seeds 0 … seeds-1, evaluations one by one.

    Ours also runs warm where another file has the same parameters: what is known then is all such files.

    Args:
        searchers: samplers of ours and strategies of Kernel Tuner.
        show: told of each finished (space, searcher).

    Raises:
        InvalidArgument: an unknown searcher, or two files of one name.
        NotFound, ResourceExhausted: a file cannot be read.
    """
    known = (*SAMPLERS, *STRATEGIES)
    for name in searchers:
        if name not in known:
            raise InvalidArgument(f"no searcher named {name[:64]!r}", hint=f"searchers: {' '.join(known)}")
    backend = ReplayBackend()
    recordings = {title: backend.recording(device) for title, device in recorded_devices(backend, files).items()}
    runs: list[Run] = []
    missing: dict[str, str] = {}
    for title, path in zip(recordings, files, strict=True):
        for name in searchers:
            try:
                tried = _searcher(name, backend, path, recordings[title], ())
            except Unsupported as problem:
                missing[name] = str(problem)
                continue
            runs += _runs(title, name, seeds, recordings[title], tried)
            show(f"{title}: {name}")
        others = [r for r in recordings.values() if r is not recordings[title] and same_kernel(r, recordings[title])]
        if DEFAULT in searchers and others:
            runs += _runs(
                title, WARM, seeds, recordings[title], _searcher(DEFAULT, backend, path, recordings[title], others)
            )
            show(f"{title}: {WARM}")
    return SearchReport(tuple(runs), missing)


def _searcher(
    name: str, backend: ReplayBackend, path: Path, recording: Recording, others: Sequence[Recording]
) -> Callable[[int], list[int]]:
    """seed -> the rows it tries, in order."""
    if name in STRATEGIES:
        simulation = Simulation(recording)
        return lambda seed: simulation.search(name, MARKS[-1], seed)
    device = backend.device(DeviceText("replay", str(path)))
    known = [recorded_trials(other) for other in others]

    def search(seed: int) -> list[int]:
        found = explore(backend, Workload.of(OPERATOR), device, MARKS[-1], seed=seed, sampler=name, known=known)
        return [evaluation.point for evaluation in found]

    return search


def _runs(title: str, searcher: str, seeds: int, recording: Recording, search: Callable[[int], list[int]]) -> list[Run]:
    return [Run(title, searcher, seed, ratios(recording, search(seed))) for seed in range(seeds)]


def ratios(recording: Recording, rows: Sequence[int]) -> tuple[float, ...]:
    """optimum / best after each of :data:`MARKS` evaluations; a search that ended earlier keeps its best."""
    found = []
    for mark in MARKS:
        times = [t for row in rows[:mark] if (t := recording.rows[row].objective) is not None]
        found.append(recording.optimum / min(times) if times else 0.0)
    return tuple(found)


def same_kernel(one: Recording, two: Recording) -> bool:
    """Whether two recordings have the same parameters."""
    return {p.name for p in one.parameters} == {p.name for p in two.parameters}


def recorded_devices(backend: ReplayBackend, files: Sequence[Path]) -> dict[str, Device]:
    """Devices of recordings by folder and name: recordings of one device are told apart by their kernel's folder.

    Raises:
        InvalidArgument: two files of one name.
        NotFound, ResourceExhausted: a file cannot be read.
    """
    found = {
        f"{path.absolute().parent.name}/{path.name.split('.')[0]}": backend.device(DeviceText(backend.name, str(path)))
        for path in files
    }
    if len(found) < len(files):
        raise InvalidArgument("two recordings have the same folder and name")
    return found
