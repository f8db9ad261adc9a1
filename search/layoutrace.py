"""One row count in the race of layouts: the fastest verified schedule of each, and what it takes to get one."""

from __future__ import annotations

import math
import time

import attrs
import numpy as np

from fettle.backends.api import (
    Artifact,
    Backend,
    Candidate,
    Device,
    Measurement,
    MeasurePolicy,
    Outcome,
    Record,
    Schedule,
)
from fettle.backends.host.executor import BuildResult, Session
from fettle.backends.host.trials import tried
from fettle.backends.spaces import enumerate_space
from fettle.costmodel.features import Featurizer
from fettle.graph.errors import Conflict, NotFound
from fettle.graph.workload import Workload
from fettle.search.finals import median_interval
from fettle.search.trials import is_valid
from fettle.store.api import Store
from fettle.store.kernels import Kernel
from fettle.store.lookup import lookup

FILLING = 8
"""Trials spent on a row count that lacks a schedule of a layout."""

_LOOKED_AT = 2048
"""Points of a space looked at to find some of a layout."""

_ROUNDS = 9
"""Interleaved rounds in which a chosen schedule meets the best of any layout."""


@attrs.frozen
class Found:
    """A verified schedule, its weight layout, its median in seconds, and its errors as :class:`Record` has them."""

    schedule: Schedule
    layout: str
    seconds: float
    max_error: float
    error_ratio: float


class Entrant:
    """A workload with its weight in the distribution, and what the store knows of it.

    Raises:
        NotFound: the cache has no kernel of it.
    """

    def __init__(
        self,
        store: Store,
        backend: Backend,
        device: Device,
        policy: MeasurePolicy,
        workload: Workload,
        weight: float,
        job_id: str,
        seed: int,
    ) -> None:
        self.workload = workload
        self.weight = weight
        self.found: dict[str, Found] = {}
        self._store = store
        self._backend = backend
        self._device = device
        self._policy = policy
        self._job_id = job_id
        self._seed = seed
        self._space = backend.space(workload, device)
        self._points = enumerate_space(self._space)
        self._default = backend.default(workload, device)
        self._untuned: Found | None = None
        self._featurizer = Featurizer(backend, workload, device, self._points)
        hit = lookup(store, workload, device, policy.mode)
        if hit.kernel is None or hit.match != "exact":
            raise NotFound(f"tuning gave no kernel for {workload}")
        self._kernel: Kernel = hit.kernel
        kernel = hit.kernel
        if kernel.schedule in self._points:
            self._note(kernel.schedule, kernel.best_s, kernel.max_error, kernel.error_ratio)
        for record in store.records(workload.key, device.key):
            if record.space_version == self._space.version and record.policy.mode == policy.mode:
                self._note_record(record)

    @property
    def best(self) -> Found:
        """The fastest of any layout."""
        return min(self.found.values(), key=lambda found: found.seconds)

    def fill(self, layout: str, session: Session) -> bool:
        """Measure schedules of a layout, those most like the best first; whether one was verified."""
        candidates = [Candidate(self.workload, self._device, schedule) for schedule in self._like_best(layout)]
        for build in session.build(candidates):
            record = self._evaluate(session, build)
            self._store.add_record(self._job_id, record)
            self._note_record(record)
        return layout in self.found

    def settle(self, layout: str, session: Session) -> tuple[Found, float]:
        """Measure the layout's schedule beside the best of any, and put its kernel into the cache.

        The untuned default is measured along, so that the kernel's gain over it is of one hour; where it has the layout
        and is faster, it is the layout's kernel.

        Returns:
            The layout's schedule with its new median, and the best's new median in seconds.

        Raises:
            Conflict: the artifact has another layout than the backend said.
        """
        chosen, best = self.found[layout], self.best
        if chosen.schedule == best.schedule == self._kernel.schedule:
            self._agree(chosen, self._store.get_artifact(self._kernel.artifact_sha256))
            return chosen, best.seconds
        schedules = list(dict.fromkeys((chosen.schedule, best.schedule, self._default)))
        wanted = [Candidate(self.workload, self._device, schedule) for schedule in schedules]
        artifacts = [build.artifact for build in session.build(wanted) if build.artifact is not None]
        measured = session.compare(artifacts, _ROUNDS)
        if len(artifacts) < len(wanted) or not all(m.ok for m in measured):
            raise NotFound(f"a verified kernel could not be built or measured again: {self.workload}")
        times = {schedule: m.median for schedule, m in zip(schedules, measured, strict=True)}
        untuned = self._untuned
        if untuned is not None and untuned.layout == layout and times[self._default] < times[chosen.schedule]:
            chosen = untuned
        place = schedules.index(chosen.schedule)
        artifact, samples = artifacts[place], measured[place].samples
        self._agree(chosen, artifact)
        chosen = attrs.evolve(chosen, seconds=times[chosen.schedule])
        self._store.put_artifact(artifact)
        self._store.put_kernel(
            attrs.evolve(
                self._kernel,
                schedule=chosen.schedule,
                artifact_sha256=artifact.sha256,
                default_s=times[self._default],
                best_s=chosen.seconds,
                best_ci=median_interval(samples),
                max_error=chosen.max_error,
                error_ratio=chosen.error_ratio,
                job_id=self._job_id,
                created=time.time(),
                toolchain=artifact.toolchain,
                abi=artifact.abi,
                isa=artifact.isa,
                space_version=self._space.version,
            )
        )
        return chosen, times[best.schedule]

    def _agree(self, chosen: Found, artifact: Artifact) -> None:
        """Weights packed for one kernel of a layout are read by the others: they would compute nonsense."""
        if artifact.weight_layout != chosen.layout:
            raise Conflict(
                f"backend {self._backend.name!r} says that the weights of {chosen.schedule} are packed as "
                f"{chosen.layout!r}, and its artifact {artifact.weight_layout!r}",
                hint="Backend.weight_layout is the Artifact.weight_layout of what the schedule is built into",
            )

    def _note_record(self, record: Record) -> None:
        if is_valid(record) and record.candidate.schedule in self._points:
            max_error, ratio = record.max_error, record.error_ratio
            self._note(
                record.candidate.schedule,
                record.measurement.median,
                math.nan if max_error is None else max_error,
                math.nan if ratio is None else ratio,
            )

    def _note(self, schedule: Schedule, seconds: float, max_error: float, error_ratio: float) -> None:
        layout = self._backend.weight_layout(self.workload, self._device, schedule)
        found = Found(schedule, layout, seconds, max_error, error_ratio)
        if layout not in self.found or seconds < self.found[layout].seconds:
            self.found[layout] = found
        if schedule == self._default:
            self._untuned = found

    def _like_best(self, layout: str) -> list[Schedule]:
        """Schedules of the layout that share the most choices with the best known schedule."""
        best = self.best.schedule.as_dict()
        rng = np.random.default_rng(self._seed)
        count = min(_LOOKED_AT, self._points.size)
        some = [self._points[index] for index in self._points.sample(rng, count)]
        matching = [s for s in some if self._backend.weight_layout(self.workload, self._device, s) == layout]
        matching.sort(key=lambda s: -sum(best.get(name) == value for name, value in s.values))
        return matching[:FILLING]

    def _evaluate(self, session: Session, build: BuildResult) -> Record:
        begun = time.monotonic()
        index = self._points.index(build.candidate.schedule)
        assert index is not None
        record = Record(
            build.candidate,
            Measurement(Outcome.OK),
            self._policy,
            space_version=self._space.version,
            features=self._featurizer.as_built(index, build.artifact),
        )
        record = tried(session, record, build)
        return attrs.evolve(record, seconds=build.seconds + time.monotonic() - begun)
