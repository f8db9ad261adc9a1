"""Compiles the next workload of a campaign while one is measured."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import attrs

from fettle.backends.api import Backend, Candidate, Measurement, MeasurePolicy, Outcome, Record
from fettle.backends.host.executor import BuildResult, Executor, Session
from fettle.backends.spaces import why_invalid
from fettle.backends.triton.shortlist import Entry
from fettle.graph.errors import FettleError
from fettle.graph.workload import Workload


@attrs.frozen
class Task:
    """One workload's candidates, and the trials made of them so far."""

    workload: Workload
    entry: Entry
    records: list[Record]


Builds = list[tuple[Record, BuildResult | None]]
"""Records still to be made, each with what was built for it: nothing, if the schedule is not in the space."""


def prepared(
    backend: Backend, executor: Executor, policy: MeasurePolicy, todo: Sequence[Task]
) -> Generator[tuple[Task, Session, Builds], None, None]:
    """Each task with a session and what was built, compiled while the task before it is measured.

    A caller that stops early closes the executor, so that nobody waits for what is still being compiled, and
    with it the session whose turn never came.
    """
    with ThreadPoolExecutor(1) as ahead:
        coming: Future[tuple[Session, Builds]] | None = None
        try:
            for number, task in enumerate(todo):
                session, builds = (coming or ahead.submit(_prepare, backend, executor, policy, task)).result()
                following = todo[number + 1 : number + 2]
                coming = ahead.submit(_prepare, backend, executor, policy, following[0]) if following else None
                with session:
                    yield task, session, builds
        finally:
            if coming is not None:
                executor.close()
                with contextlib.suppress(FettleError):
                    coming.result()[0].close()


def _prepare(backend: Backend, executor: Executor, policy: MeasurePolicy, task: Task) -> tuple[Session, Builds]:
    """Open a session and compile what is left to try, side by side; None for what is not in the space."""
    session = executor.open(task.workload, policy, seed=0)
    known = {r.candidate.key for r in task.records}
    space = backend.space(task.workload, executor.device)
    records = []
    default = backend.default(task.workload, executor.device)
    for schedule in dict.fromkeys((default, *task.entry.schedules)):
        candidate = Candidate(task.workload, executor.device, schedule)
        if candidate.key not in known:
            record = Record(candidate, Measurement(Outcome.OK), policy, space_version=space.version)
            if (why := why_invalid(space, candidate.schedule)) is not None:
                record = attrs.evolve(record, measurement=Measurement.failure(Outcome.INVALID, why))
            records.append(record)
    try:
        builds = {b.candidate.key: b for b in session.build([r.candidate for r in records if r.measurement.ok])}
    except FettleError:
        session.close()
        raise
    return session, [(record, builds.get(record.candidate.key)) for record in records]
