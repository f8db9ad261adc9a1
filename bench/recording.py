"""Records schedules of a space, all sampled in turns, so that a disturbance harms a few samples of all and not all
samples of a few. What remains of each is its shortest sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import numpy as np

from fettle.backends.api import Backend, Candidate, Device, Measurement, MeasurePolicy, Record, Schedule
from fettle.backends.host.executor import make_executor
from fettle.backends.spaces import enumerate_space
from fettle.graph.errors import Unsupported
from fettle.graph.workload import Workload

_MIN_SAMPLE = 0.001
"""Seconds of a sample: many short ones find more undisturbed moments than few long ones."""

_TIMEOUT = 60.0
_CHUNK = 16
"""Schedules built between two reports."""

_DIGITS = 4
"""Significant digits of a sample that are kept; noise is in the third."""


def record_space(
    backend: Backend,
    workload: Workload,
    device: Device,
    schedules: int,
    rounds: int,
    seed: int,
    show: Callable[[str], None] = lambda text: None,
) -> list[Record]:
    """The default and so many random schedules, verified, ``rounds`` samples each; failures are records too.

    Raises:
        Unsupported: the backend cannot do the workload.
    """
    require_support(backend, workload, device)
    points = enumerate_space(backend.space(workload, device))
    drawn = [points[i] for i in points.sample(np.random.default_rng(seed), schedules)]
    wanted = list(dict.fromkeys([backend.default(workload, device), *drawn]))
    return record_schedules(backend, workload, device, wanted, rounds, seed, show)


def record_schedules(
    backend: Backend,
    workload: Workload,
    device: Device,
    schedules: Sequence[Schedule],
    rounds: int,
    seed: int,
    show: Callable[[str], None] = lambda text: None,
) -> list[Record]:
    """These schedules, verified, ``rounds`` samples each; failures are records too.

    Raises:
        Unsupported: the backend cannot do the workload.
    """
    require_support(backend, workload, device)
    version = backend.space(workload, device).version
    candidates = [Candidate(workload, device, schedule) for schedule in schedules]
    policy = MeasurePolicy(min_sample=_MIN_SAMPLE, samples=rounds, timeout=_TIMEOUT)
    with make_executor(backend, device) as executor, executor.open(workload, policy, seed) as session:
        builds = []
        for start in range(0, len(candidates), _CHUNK):
            builds += session.build(candidates[start : start + _CHUNK])
            show(f"built {len(builds)} of {len(candidates)}")
        built = [b for b in builds if b.artifact is not None]
        measured = session.compare([b.artifact for b in built if b.artifact is not None], rounds)
    found = {b.candidate: _undisturbed(m) for b, m in zip(built, measured, strict=True)}
    found |= {b.candidate: b.failure for b in builds if b.failure is not None}
    return [Record(c, found[c], policy, verified=found[c].ok, space_version=version) for c in candidates if c in found]


def require_support(backend: Backend, workload: Workload, device: Device) -> None:
    """Raises Unsupported if the backend cannot do the workload."""
    if not (support := backend.supports(workload, device)):
        raise Unsupported(f"{device} cannot run {workload}: {support.reason}")


def _undisturbed(measurement: Measurement) -> Measurement:
    """With the shortest sample as its time."""
    if not measurement.ok:
        return measurement
    samples = tuple(float(f"{s:.{_DIGITS}g}") for s in measurement.samples)
    return attrs.evolve(measurement, samples=samples, objective=min(samples))
