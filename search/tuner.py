"""The loop of one workload: propose, build, verify and measure, record, learn."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence

import attrs
import numpy as np

from fettle.backends.api import (
    Backend,
    Bound,
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
from fettle.backends.returned import returned
from fettle.backends.spaces import enumerate_space
from fettle.costmodel.features import Featurizer, UnitFeatures
from fettle.costmodel.foresight import Foresight
from fettle.costmodel.transfer import Models, Trials, make_prior
from fettle.graph.errors import Conflict, Internal
from fettle.graph.workload import Workload
from fettle.search import objectives
from fettle.search.batches import BATCH, Batches
from fettle.search.finalists import Finalists
from fettle.search.finals import Verdict
from fettle.search.lite import lite
from fettle.search.samplers import DEFAULT, SAMPLERS, Observation, Problem, Proposal, SamplerFactory
from fettle.search.samplers.joined import make_front_prior
from fettle.search.samplers.pareto import for_several
from fettle.search.trials import is_valid, undisturbed_seconds
from fettle.store.jobs import Tradeoff


class WorkloadTuner:
    """Tunes one workload, a few trials a step, from whatever was recorded before.

    A tuner that is rebuilt from its records goes on exactly where the old one stopped (:class:`Batches`).

    Args:
        history: records of earlier steps, in order.
        clock: seconds, monotonic.
        sampler: makes what proposes the trials.
        known: trials of the same operator elsewhere, with all objectives; the same ones whenever the tuner is rebuilt.
        models: where models of ``known`` are kept.
        minimise: objectives of the job; with several, the search is for their Pareto front.
        few_trials: search only what the backend's analysis expects most of, if it has any.
    """

    def __init__(
        self,
        backend: Backend,
        workload: Workload,
        device: Device,
        bound: Bound,
        *,
        count: int = 1,
        policy: MeasurePolicy | None = None,
        seed: int = 0,
        history: Sequence[Record] = (),
        clock: Callable[[], float] = time.monotonic,
        sampler: SamplerFactory = SAMPLERS[DEFAULT],
        known: Sequence[Trials] = (),
        models: Models | None = None,
        minimise: Sequence[str] = ("latency",),
        few_trials: bool = False,
    ) -> None:
        self.workload = workload
        self.device = device
        self.bound = bound
        self.count = count
        self.policy = policy or MeasurePolicy()
        self.records = list(history)
        self.seconds = sum(r.seconds for r in history)
        self.trial_seconds = self.seconds / len(history) if history else None
        self.error = ""
        self.space = backend.space(workload, device)
        self.points = enumerate_space(self.space)
        self.default = returned(backend.default(workload, device), Schedule, backend, "default")
        self._clock = clock
        self._featurizer = Featurizer(backend, workload, device, self.points)
        self._objectives = tuple(minimise)
        if len(self._objectives) > 1:
            fronts = make_front_prior(self.points, known, len(self._objectives), models)
            proposing = for_several(sampler, attrs.evolve(self._problem(), fronts=fronts), seed)
        else:
            prior = make_prior(self.points, known, models)
            promising = lite(self.points, self._featurizer) if few_trials else None
            proposing = sampler(attrs.evolve(self._problem(), prior=prior, lite=promising), seed)
        self._batches = Batches(proposing, self._observation)
        self._indices = [self._index(r.candidate.schedule) for r in self.records]
        self._finalists = Finalists(self.default, self.policy)

    # ------------------------------------------------------------------------------------------ state

    @property
    def trials(self) -> int:
        return len(self.records)

    @property
    def failed(self) -> int:
        return sum(not is_valid(r) for r in self.records)

    @property
    def exhausted(self) -> bool:
        """Whether nothing is left to try, or nothing to gain."""
        return bool(self.error) or self._batches.settled or len(set(self._indices)) >= self.points.size

    @property
    def best_s(self) -> float | None:
        """Fastest verified time so far, in seconds."""
        return min((r.measurement.time for r in self.records if is_valid(r)), default=None)

    def best_after(self, trials: int) -> float | None:
        """What :attr:`best_s` was after that many trials."""
        return min((r.measurement.time for r in self.records[:trials] if is_valid(r)), default=None)

    def front(self) -> tuple[Tradeoff, ...]:
        """The trials that no other beats in all objectives; empty if there is but one."""
        if len(self._objectives) == 1:
            return ()
        return objectives.front([r for r in self.records if is_valid(r)], self._objectives)

    def model_gain(self) -> float | None:
        """Decrease of log(time) that the sampler expects of the next batch's first trial; None without a model."""
        if self.exhausted:
            return None
        self._batches.pending(self._indices, self.records)
        return self._batches.expected_gain

    def foresight(self) -> Foresight:
        """How good predictions were of the trials they were made for, before these were measured."""
        judged = [r for r in self.records if r.predicted is not None and is_valid(r)]
        return Foresight.of(
            np.array([r.predicted for r in judged], np.float64),
            np.array([r.predicted_std for r in judged], np.float64),
            np.array([self._log_time(r) for r in judged]),
        )

    # ------------------------------------------------------------------------------------------ the loop

    def step(
        self,
        session: Session,
        trials: int,
        *,
        until: float = math.inf,
        on_record: Callable[[Record], None] = lambda record: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> int:
        """Make up to ``trials`` trials of the present batch; returns how many.

        Args:
            until: clock seconds at which trials should be over, given the finals that were foreseen at the beginning;
                finals of more trials take longer, which is taken off. One trial is always made: what was built was
                paid for.
            on_record: called with each new record at once.
            should_stop: asked before building and before each trial.
        """
        begun = self._clock()
        proposals = self._batches.pending(self._indices, self.records)[:trials]
        builds = session.build([self._candidate(p) for p in proposals]) if not should_stop() else []
        overhead = (self._clock() - begun) / max(len(builds), 1)
        foreseen = self.finals_seconds()
        made = 0
        for proposal, build in zip(proposals, builds, strict=False):
            if should_stop() or (made and self._is_late(until + foreseen)):
                break
            record = self._evaluate(session, proposal, build, overhead)
            made += 1
            self.trial_seconds = sum(r.seconds for r in self.records[-made:]) / made
            on_record(record)
        self.seconds += self._clock() - begun
        return made

    def _is_late(self, until: float) -> bool:
        """Whether another trial like the last one, and the finals, would end after these clock seconds."""
        return self._clock() + self.records[-1].seconds + self.finals_seconds() >= until

    def _evaluate(self, session: Session, proposal: Proposal, build: BuildResult, overhead: float) -> Record:
        """One trial as a record. ``overhead`` is its share of the time spent proposing and building."""
        begun = self._clock()
        artifact = build.artifact
        record = Record(
            candidate=build.candidate,
            measurement=Measurement(Outcome.OK),
            policy=self.policy,
            space_version=self.space.version,
            features=self._featurizer.as_built(proposal.index, artifact),
            predicted=proposal.predicted,
            predicted_std=proposal.std,
        )
        record = tried(session, record, build)
        record = attrs.evolve(record, seconds=overhead + self._clock() - begun)
        if is_valid(record):
            objectives.values(record, self._objectives)  # better now than after a search in vain
        self._indices.append(proposal.index)
        self.records.append(record)
        if artifact is not None and is_valid(record):
            self._finalists.keep(artifact, record, self.records)
        return record

    # ----------------------------------------------------------------------------------------- finals

    def usual_seconds(self) -> float | None:
        """Seconds that most of the last trials took: the first may compile a simulator, or load a library."""
        return statistics.median(r.seconds for r in self.records[-BATCH:]) if self.records else None

    def finals_seconds(self) -> float:
        """About how long :meth:`play_finals` would take now."""
        return self._finalists.seconds(self.records, self.usual_seconds() or 0.0)

    def play_finals(self, session: Session, until: float = math.inf, short: bool = False) -> Verdict | None:
        """The best few against the default; see :meth:`Finalists.play`."""
        begun = self._clock()
        has_time = not short and begun + self.finals_seconds() <= until
        verdict = self._finalists.play(session, self.records, has_time, lambda: not short and self._clock() < until)
        self.seconds += self._clock() - begun
        return verdict

    # ---------------------------------------------------------------------------------------- helpers

    def _problem(self) -> Problem:
        """What is searched, as far as it does not depend on how many objectives there are."""
        default = self.points.index(self.default)
        if default is None:
            raise Internal(f"the default schedule of {self.workload} is no point of its space: {self.default}")
        features = UnitFeatures(self._featurizer, self.points) if self._featurizer.analyses else None
        return Problem(self.points, default, features=features, objectives=len(self._objectives))

    def _candidate(self, proposal: Proposal) -> Candidate:
        return Candidate(self.workload, self.device, self.points[proposal.index])

    def _index(self, schedule: Schedule) -> int:
        index = self.points.index(schedule)
        if index is None:
            raise Conflict(
                f"a recorded schedule is no point of the present space: {schedule}",
                hint="the backend changed since the job began; submit it again",
            )
        return index

    def _observation(self, index: int, record: Record) -> Observation:
        """What the model learns: log(time / bound), infinity for a failure, and logarithms of other objectives."""
        if not is_valid(record):
            return Observation(index, math.inf)
        return Observation(index, self._log_time(record), objectives.logarithms(record, self._objectives[1:]))

    def _log_time(self, record: Record) -> float:
        """log(time / bound) of a valid trial."""
        return math.log(undisturbed_seconds(record) / self.bound.seconds)
