"""The task scheduler beside giving every workload the same: a model whose spaces were recorded, tuned by replay."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
import numpy as np

from fettle.backends.api import Device, DeviceText, Schedule
from fettle.backends.host.executor import Session, make_executor
from fettle.backends.replay import ReplayBackend
from fettle.backends.replay.backend import OPERATOR
from fettle.backends.replay.recording import Recording
from fettle.graph.errors import InvalidArgument
from fettle.graph.workload import Workload
from fettle.search.batches import BATCH
from fettle.search.samplers import DEFAULT, SAMPLERS
from fettle.search.scheduler import Scheduler
from fettle.search.tuner import WorkloadTuner

MARKS = (8, 12, 16, 20, 24, 32)
"""Mean trials a workload after which the model's time is read."""

EXPECTED_GAIN, IN_TURN = "expected gain", "in turn"
POLICIES = (EXPECTED_GAIN, IN_TURN)


@attrs.frozen(eq=False)
class Part:
    """One distinct workload of a model: how often it occurs, and its recorded space."""

    count: int
    path: Path
    recording: Recording


@attrs.frozen
class Curve:
    """One way of giving out trials, with one seed.

    Attributes:
        ratios: best possible time of the model / best found, at each mark; 0 before every part has a time.
    """

    policy: str
    seed: int
    ratios: tuple[float, ...]


def parts_of(workloads: Sequence[tuple[Workload, int]], files: Sequence[Path]) -> list[Part]:
    """The recordings of a model's workloads.

    Raises:
        InvalidArgument: a workload has none.
    """
    backend = ReplayBackend()
    found = {}
    for path in files:
        recording = backend.recording(backend.device(DeviceText(backend.name, str(path))))
        found[recording.workload] = path, recording
    missing = [str(w) for w, _ in workloads if str(w) not in found]
    if missing:
        raise InvalidArgument(f"no recording of {'; '.join(missing)}", hint="fettle costmodel record WORKLOAD -o FILE")
    return [Part(count, *found[str(workload)]) for workload, count in workloads]


def curves(
    parts: Sequence[Part],
    seeds: int,
    sampler: str = DEFAULT,
    from_default: bool = True,
    marks: Sequence[int] = MARKS,
    show: Callable[[str], None] = lambda text: None,
) -> list[Curve]:
    """Every policy with the seeds 0 … seeds-1; the same seed makes the same trials. Turns have a random order.

    Args:
        sampler: a name of :data:`fettle.search.samplers.SAMPLERS`.
        from_default: begin with the recording's first row, the untuned default; else with one that is as slow as three
            quarters of them.
        marks: a beginning of :data:`MARKS`.
    """
    found = []
    for seed, policy in itertools.product(range(seeds), POLICIES):
        found.append(Curve(policy, seed, tuple(_search(parts, policy, seed, sampler, from_default, marks))))
        show(f"{policy}, seed {seed}")
    return found


def mean_ratio(found: Sequence[Curve], policy: str, mark: int) -> float:
    """Mean over seeds."""
    ratios = [curve.ratios[MARKS.index(mark)] for curve in found if curve.policy == policy]
    return math.fsum(ratios) / len(ratios)


def lead(found: Sequence[Curve], mark: int) -> tuple[float, float]:
    """Mean over seeds of how far expected gain is ahead of turns, and half its 95 % confidence interval (Student's t;
    NaN for one seed)."""
    from scipy.stats import t

    at = MARKS.index(mark)
    ratios = {(curve.policy, curve.seed): curve.ratios[at] for curve in found}
    ahead = np.array([ratios[EXPECTED_GAIN, seed] - ratios[IN_TURN, seed] for seed in {curve.seed for curve in found}])
    if len(ahead) < 2:
        return float(ahead.mean()), math.nan
    error = float(ahead.std(ddof=1)) / math.sqrt(len(ahead))
    return float(ahead.mean()), float(t.ppf(0.975, len(ahead) - 1)) * error


class _SlowStart(ReplayBackend):
    """A replay device whose default is a slow schedule, so that there is something to gain."""

    def default(self, workload: Workload, device: Device) -> Schedule:
        recording = self.recording(device)
        valid = [number for number, row in enumerate(recording.rows) if row.objective is not None]
        valid.sort(key=lambda number: recording.rows[number].objective or math.inf)
        return recording.schedule(valid[len(valid) * 3 // 4])


def _search(
    parts: Sequence[Part], policy: str, seed: int, sampler: str, from_default: bool, marks: Sequence[int]
) -> list[float]:
    backend = ReplayBackend() if from_default else _SlowStart()
    workload = Workload.of(OPERATOR)
    sessions: list[Session] = []
    tuners: list[WorkloadTuner] = []
    for part in parts:
        device = backend.device(DeviceText(backend.name, str(part.path)))
        executor = make_executor(backend, device)
        bound = backend.bound(workload, device, executor.profile())
        make = SAMPLERS[sampler]
        tuners.append(WorkloadTuner(backend, workload, device, bound, count=part.count, seed=seed, sampler=make))
        sessions.append(executor.open(workload, tuners[-1].policy, seed))
    best_possible = sum(part.count * part.recording.optimum * part.recording.scale for part in parts)
    order = np.random.default_rng(seed).permutation(len(tuners)).tolist()
    ratios = []
    for mark in marks:
        total = mark * len(parts)
        if policy == EXPECTED_GAIN:
            scheduler = Scheduler(tuners, total, math.inf, time.monotonic)
            while turn := scheduler.next():
                turn.tuner.step(sessions[tuners.index(turn.tuner)], turn.trials)
        else:
            _take_turns(tuners, sessions, total, order)
        found = sum(t.count * (math.inf if t.best_s is None else t.best_s) for t in tuners)
        ratios.append(best_possible / found)
    return ratios


def _take_turns(tuners: Sequence[WorkloadTuner], sessions: Sequence[Session], total: int, order: Sequence[int]) -> None:
    """Batches in turn, in some order; what a used-up space leaves over goes to the others."""
    while (left := total - sum(t.trials for t in tuners)) > 0:
        waiting = [number for number in order if not tuners[number].exhausted]
        if not waiting:
            return
        number = min(waiting, key=lambda number: tuners[number].trials)
        tuners[number].step(sessions[number], min(BATCH, left))
