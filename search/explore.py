"""A search by itself, without job, store or finals: for recordings, and for comparing samplers on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import attrs

from fettle.backends.api import Backend, Candidate, Device, Measurement, MeasurePolicy, Outcome
from fettle.backends.host.executor import Session, make_executor
from fettle.backends.spaces import Points, enumerate_space
from fettle.graph.errors import InvalidArgument
from fettle.graph.workload import Workload
from fettle.search.samplers import Observation, OptunaTpeSampler, RandomSampler, Sampler
from fettle.search.tuner import BATCH, WorkloadTuner

SCREEN = "screen"
"""The loop that jobs run: a cost model screens what a sampler proposes."""

SAMPLERS: Mapping[str, Callable[[Points, int], Sampler]] = {"tpe": OptunaTpeSampler, "random": RandomSampler}
"""Samplers that work alone, by name."""


@attrs.frozen
class Evaluation:
    """One trial: the point's number, and how it turned out."""

    point: int
    measurement: Measurement


def sampler_names() -> tuple[str, ...]:
    """What :func:`explore` can search with, the default first."""
    return (SCREEN, *SAMPLERS)


def explore(
    backend: Backend, workload: Workload, device: Device, evaluations: int, *, seed: int = 0, sampler: str = SCREEN
) -> list[Evaluation]:
    """Try that many points, or all that the space has; the same seed tries the same points in the same order.

    Args:
        sampler: one of :func:`sampler_names`.

    Raises:
        InvalidArgument: no such sampler.
    """
    if sampler not in sampler_names():
        raise InvalidArgument(f"no sampler named {sampler[:64]!r}", hint=f"samplers: {' '.join(sampler_names())}")
    policy = MeasurePolicy()
    with make_executor(backend, device) as executor, executor.open(workload, policy, seed) as session:
        bound = backend.bound(workload, device, executor.profile())
        if sampler == SCREEN:
            tuner = WorkloadTuner(backend, workload, device, bound, policy=policy, seed=seed)
            while tuner.trials < evaluations and not tuner.exhausted:
                tuner.step(session, min(BATCH, evaluations - tuner.trials))
            numbers = [tuner.points.index(r.candidate.schedule) for r in tuner.records]
            return [Evaluation(n or 0, r.measurement) for n, r in zip(numbers, tuner.records, strict=True)]
        points = enumerate_space(backend.space(workload, device))
        alone = SAMPLERS[sampler](points, seed)
        found: list[Evaluation] = []
        while len(found) < evaluations and (proposed := alone.propose(1)):
            candidate = Candidate(workload, device, points[proposed[0]])
            found.append(Evaluation(proposed[0], _try(session, candidate)))
            alone.tell([Observation(proposed[0], math.log(found[-1].measurement.time / bound.seconds))])
        return found


def _try(session: Session, candidate: Candidate) -> Measurement:
    (build,) = session.build([candidate])
    if build.artifact is None:
        return build.failure or Measurement.failure(Outcome.COMPILE_ERROR, "the build gave no artifact")
    trial = session.evaluate(candidate, build.artifact)
    return trial.measurement if trial.verified else attrs.evolve(trial.measurement, outcome=Outcome.WRONG_RESULT)
