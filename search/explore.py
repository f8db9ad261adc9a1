"""A search by itself, without job, store or finals: for recordings, and for comparing samplers on them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs
import numpy as np

from fettle.backends.api import Backend, Basis, Candidate, Device, Measurement, MeasurePolicy, Outcome
from fettle.backends.host.executor import Session, TrialResult, make_executor
from fettle.backends.replay.recording import Recording
from fettle.backends.spaces import enumerate_space
from fettle.costmodel.transfer import Trials, make_prior
from fettle.graph.errors import Internal
from fettle.graph.workload import Workload
from fettle.search.samplers import DEFAULT, Observation, Problem, make_sampler


@attrs.frozen
class Evaluation:
    """One trial: the point's number, and how it turned out."""

    point: int
    measurement: Measurement


def explore(
    backend: Backend,
    workload: Workload,
    device: Device,
    evaluations: int,
    *,
    seed: int = 0,
    sampler: str = DEFAULT,
    known: Sequence[Trials] = (),
) -> list[Evaluation]:
    """Try that many points one by one, or all that the space has; the same seed tries the same points in order.

    Args:
        sampler: a name of :data:`fettle.search.samplers.SAMPLERS`.
        known: trials of the same operator elsewhere, for samplers that can use them.

    Raises:
        InvalidArgument: no such sampler.
        Unsupported: the sampler needs a package that is not installed.
    """
    points = enumerate_space(backend.space(workload, device))
    default = points.index(backend.default(workload, device))
    if default is None:
        raise Internal(f"the default schedule of {workload} is no point of its space")
    proposing = make_sampler(sampler, Problem(points, default, make_prior(points, known)), seed)
    policy = MeasurePolicy()
    found: list[Evaluation] = []
    with make_executor(backend, device) as executor, executor.open(workload, policy, seed) as session:
        bound = backend.bound(workload, device, executor.profile())
        while len(found) < evaluations and (proposed := proposing.propose(1)):
            index = proposed[0].index
            found.append(Evaluation(index, attempt(session, Candidate(workload, device, points[index]))))
            proposing.tell([Observation(index, math.log(found[-1].measurement.time / bound.seconds))])
    return found


def attempt(session: Session, candidate: Candidate) -> Measurement:
    """Build, verify and measure one candidate; whatever goes wrong with it is a typed failure."""
    (build,) = session.build([candidate])
    if build.artifact is None:
        return build.problem
    return verified(session.evaluate(candidate, build.artifact))


def verified(trial: TrialResult) -> Measurement:
    """A trial's measurement; a failure if its result was not right, though it could have been."""
    unproven = trial.measurement.ok and not trial.verified and trial.measurement.basis is not Basis.PREDICTED
    return attrs.evolve(trial.measurement, outcome=Outcome.WRONG_RESULT) if unproven else trial.measurement


def recorded_trials(recording: Recording) -> Trials:
    """All rows of a recording, as trials that were made elsewhere."""
    values = [math.inf if row.objective is None else math.log(row.objective) for row in recording.rows]
    schedules = tuple(recording.schedule(number) for number in range(len(recording.rows)))
    return Trials(schedules, np.array(values))
