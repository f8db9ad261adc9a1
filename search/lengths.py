"""How long schedules take at several lengths of a workload: asked of a model, or measured."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.backends.api import Artifact, Backend, Candidate, Device, MeasurePolicy, Schedule
from fettle.backends.host.executor import Session, make_executor
from fettle.backends.host.models import ModelBackend
from fettle.backends.spaces import enumerate_space, is_valid
from fettle.graph.workload import Workload
from fettle.search.explore import verified
from fettle.search.finals import SHORT_ROUNDS
from fettle.search.sessions import Sessions

KEPT = 4
"""Of the schedules measured at one length, the fastest that are measured at all."""


@attrs.frozen(eq=False)
class Times:
    """``seconds[s, l]`` of schedule s at length l; infinite where it is not valid or gave no right result."""

    schedules: tuple[Schedule, ...]
    seconds: NDArray[np.float64]


def times(backend: Backend, device: Device, workloads: Sequence[Workload], samples: int, seed: int) -> Times:
    """Of each length's default and ``samples`` schedules drawn from its space at random.

    A model is asked about each of them at every length. On other devices each length's are verified and measured there;
    the :data:`KEPT` fastest and the default of every length are then measured at all lengths, interleaved.
    """
    rng = np.random.default_rng(seed)
    drawn = []
    for one in workloads:
        points = enumerate_space(backend.space(one, device))
        default = backend.default(one, device)
        drawn.append(list(dict.fromkeys([default, *(points[i] for i in points.sample(rng, samples))])))
    if isinstance(backend, ModelBackend):
        return _simulated(backend, device, workloads, _union(drawn))
    with make_executor(backend, device) as executor, Sessions(executor, MeasurePolicy(), seed) as sessions:
        kept = []
        for one, schedules in zip(workloads, drawn, strict=True):
            found = _verified(sessions.get(one), one, device, schedules)
            fastest = sorted(found, key=lambda schedule: found[schedule][1])
            kept.append([schedules[0], *fastest[:KEPT]])
        pool = _union(kept)
        seconds = np.full((len(pool), len(workloads)), np.inf)
        for column, one in enumerate(workloads):
            space = backend.space(one, device)
            found = _verified(sessions.get(one), one, device, [s for s in pool if is_valid(space, s)])
            artifacts = [artifact for artifact, _ in found.values()]
            compared = sessions.get(one).compare(artifacts, SHORT_ROUNDS) if artifacts else []
            for schedule, measurement in zip(found, compared, strict=True):
                seconds[pool.index(schedule), column] = measurement.time if measurement.ok else math.inf
    return Times(tuple(pool), seconds)


def _union(groups: Sequence[Sequence[Schedule]]) -> list[Schedule]:
    return list(dict.fromkeys(schedule for group in groups for schedule in group))


def _simulated(backend: Backend, device: Device, workloads: Sequence[Workload], pool: Sequence[Schedule]) -> Times:
    seconds = np.full((len(pool), len(workloads)), np.inf)
    for column, one in enumerate(workloads):
        space = backend.space(one, device)
        for row, schedule in enumerate(pool):
            if is_valid(space, schedule):
                seconds[row, column] = backend.simulate(one, device, schedule.as_dict()).seconds
    return Times(tuple(pool), seconds)


def _verified(
    session: Session, workload: Workload, device: Device, schedules: Sequence[Schedule]
) -> dict[Schedule, tuple[Artifact, float]]:
    """Artifacts and seconds of the schedules that give right results."""
    found = {}
    for build in session.build([Candidate(workload, device, schedule) for schedule in schedules]):
        if build.artifact is not None:
            measurement = verified(session.evaluate(build.candidate, build.artifact))
            if measurement.ok:
                found[build.candidate.schedule] = build.artifact, measurement.time
    return found
