"""Runs one stored job from beginning to end, or from where it stopped."""

from __future__ import annotations

import functools
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from fettle.backends.api import Backend, Device, Record
from fettle.backends.host.executor import Executor, make_executor
from fettle.backends.registry import get_backend
from fettle.costmodel.model import import_libraries
from fettle.graph import codec
from fettle.graph.errors import Cancelled, DataLoss, FettleError, NotFound, StoreFull, StoreUnavailable
from fettle.graph.workload import Workload
from fettle.search.elsewhere import trials_elsewhere
from fettle.search.journal import Journal
from fettle.search.lite import FEW_TRIALS
from fettle.search.results import (
    CANCELLED_UNTRIED,
    cached_result,
    failed_result,
    why_no_kernel,
    won_kernel,
    won_result,
)
from fettle.search.roofs import Roofs
from fettle.search.samplers import DEFAULT, SAMPLERS, SamplerFactory
from fettle.search.scheduler import Scheduler
from fettle.search.sessions import Sessions
from fettle.search.trials import is_valid
from fettle.search.tuner import WorkloadTuner
from fettle.search.watch import Stop, Watch
from fettle.store.api import Store
from fettle.store.lookup import lookup
from fettle.store.values import Job, JobEvent, JobState, Kernel, WorkloadResult

_log = logging.getLogger("fettle.search")

_STORE_TROUBLE = (StoreUnavailable, StoreFull)

ExecutorFactory = Callable[[Backend, Device], Executor]


def run_job(
    store: Store,
    job_id: str,
    *,
    cancel: threading.Event | None = None,
    pause: threading.Event | None = None,
    on_event: Callable[[JobEvent], None] | None = None,
    executor_factory: ExecutorFactory | None = None,
    backend: Backend | None = None,
    sampler: SamplerFactory = SAMPLERS[DEFAULT],
    clock: Callable[[], float] = time.monotonic,
) -> Job:
    """Run a job in this thread.

    1. A queued, paused or (after a crash) running job becomes running; one that is final is returned as it is.
    2. Workloads the cache already has, unless forced, and workloads the backend does not support get their results.
    3. The others are tuned, going on from the records the job already has, until trials, time or spaces are used up.
    4. Finals decide each workload's winner, which goes into the cache.
    5. The job is done, or failed if no workload has a kernel or something broke (the error is kept).

    Args:
        cancel: set it, or request cancellation in the store, to stop after the present trial; shorter finals keep the
            best so far, and the job is cancelled.
        pause: set it to stop after the present trial without finals; the job is paused and may be run again.
        on_event: called with every event, in this thread.
        executor_factory: makes the device's executor; by default the backend's own, else worker processes here.
        backend: the backend to use instead of the registered one.
        sampler: makes a sampler from (problem, seed).
        clock: seconds, monotonic.

    Raises:
        NotFound: no such job.
        Conflict: another thread or process runs it; see :func:`fettle.search.follow.run_or_follow`.
        StoreUnavailable, StoreFull: the job stays as it is, and goes on from its stored trials when it is run again.
    """
    with store.claim_job(job_id) as held:
        startable = (JobState.QUEUED, JobState.PAUSED, JobState.RUNNING)
        if not store.move_job(job_id, startable, JobState.RUNNING):
            return store.get_job(job_id)
        run = _Run(store, job_id, Watch(store, job_id, held, cancel, pause, clock), on_event, sampler, clock)
        run.event("state", {"state": JobState.RUNNING.value, "error": ""})
        try:
            state, error = run.run(backend, executor_factory or make_executor)
        except _STORE_TROUBLE:
            raise  # nothing is wrong with the job
        except FettleError as problem:
            state, error = JobState.FAILED, str(problem)
        except Exception as problem:  # a defect; the job must not look alive, and the log gets the traceback
            _log.exception("job %s failed", job_id)
            state, error = JobState.FAILED, f"internal error: {type(problem).__name__}: {problem}"
        store.move_job(job_id, (JobState.RUNNING,), state, error)
        run.event("state", {"state": state.value, "error": error})
        return store.get_job(job_id)


class _Run:
    """One run of one job; see :func:`run_job`."""

    def __init__(
        self,
        store: Store,
        job_id: str,
        watch: Watch,
        on_event: Callable[[JobEvent], None] | None,
        sampler: SamplerFactory,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._job = store.get_job(job_id)
        self._spec = self._job.spec
        self._watch = watch
        self._on_event = on_event
        self._sampler = sampler
        self._clock = clock
        self._begun = clock()
        self._deadline = math.inf
        self._finished = {result.workload.key: result for result in self._job.results}
        self._scheduler: Scheduler | None = None
        self._journal = Journal(store, job_id, clock, self._show)

    def run(self, backend: Backend | None, executor_factory: ExecutorFactory) -> tuple[JobState, str]:
        """The state the job ends in, and why if it failed."""
        backend = backend or get_backend(self._spec.device.backend)
        backend.attach(self._spec.device, self._spec.device_text)
        self._store.put_device(self._spec.device)
        work = self._settle_without_tuning(backend)
        if work:
            with executor_factory(backend, self._spec.device) as executor:
                import_libraries()  # while the workers start
                roofs = self._roofs(backend, executor, work)
                if roofs is not None:
                    tuners = self._tuners(backend, work, roofs)
                    with Sessions(executor, self._spec.policy, self._spec.seed) as sessions:
                        self._search(tuners, sessions)
                        self._finals(tuners, sessions, roofs)
        stop = self._watch.check()
        if len(self._finished) < len(self._spec.workloads):
            return JobState.PAUSED, ""
        if stop is Stop.CANCEL:
            return JobState.CANCELLED, ""
        errors = [f"{r.workload}: {r.error}" for r in self._finished.values() if r.error]
        if len(errors) == len(self._spec.workloads):
            return JobState.FAILED, "; ".join(errors)
        return JobState.DONE, ""

    # ----------------------------------------------------------------------------------------- phases

    def _settle_without_tuning(self, backend: Backend) -> list[tuple[Workload, int]]:
        """Results for what needs no tuning; returns the rest."""
        rest = []
        for workload, count in self._spec.workloads:
            if workload.key in self._finished:
                continue
            support = backend.supports(workload, self._spec.device)
            anew = self._spec.force or len(self._spec.objectives) > 1
            found = None if anew else lookup(self._store, workload, self._spec.device, self._spec.policy.mode)
            if found is not None and found.kernel is not None and self._is_whole(found.kernel):
                self._finish(cached_result(workload, count, found.kernel))
            elif not support:
                self._finish(WorkloadResult(workload, count, error=support.reason))
            else:
                rest.append((workload, count))
        return rest

    def _is_whole(self, kernel: Kernel) -> bool:
        """Whether the artifact of a cached kernel is there, as it was stored: what is lost or damaged is made again."""
        try:
            self._store.get_artifact(kernel.artifact_sha256)
        except (DataLoss, NotFound):
            return False
        return True

    def _roofs(self, backend: Backend, executor: Executor, work: list[tuple[Workload, int]]) -> Roofs | None:
        """The device's roofs; None if the job is stopped while they are measured, which takes ten seconds."""
        profiling = functools.partial(self.event, "phase", {"workload": "", "phase": "profile"})
        try:
            with self._watch.closing(executor):
                return Roofs(self._store, backend, self._spec.device, executor, profiling)
        except Cancelled:
            if self._watch.check() is Stop.CANCEL:
                for workload, count in work:
                    self._finish(WorkloadResult(workload, count, error=CANCELLED_UNTRIED))
            return None

    def _tuners(self, backend: Backend, work: list[tuple[Workload, int]], roofs: Roofs) -> list[WorkloadTuner]:
        """A tuner for each workload whose space can be set up; the others get their results.

        A stop is obeyed in between: models of earlier trials may take a second each to fit.
        """
        tuners = []
        for workload, count in work:
            history = self._store.job_records(self._job.id, workload.key)
            stop = self._watch.check()
            if stop is Stop.PAUSE:
                break
            if stop is Stop.CANCEL and not history:
                self._finish(WorkloadResult(workload, count, error=CANCELLED_UNTRIED))
                continue
            try:
                tuners.append(self._tuner(backend, workload, count, history, roofs))
            except _STORE_TROUBLE:
                raise
            except FettleError as problem:
                self._finish(WorkloadResult(workload, count, error=str(problem)))
        return tuners

    def _tuner(
        self, backend: Backend, workload: Workload, count: int, history: Sequence[Record], roofs: Roofs
    ) -> WorkloadTuner:
        spec = self._spec
        space = backend.space(workload, spec.device)
        return WorkloadTuner(
            backend,
            workload,
            spec.device,
            roofs.bound(workload),
            count=count,
            policy=spec.policy,
            seed=spec.seed,
            history=history,
            clock=self._clock,
            sampler=self._sampler,
            known=trials_elsewhere(self._store, workload, spec.device, space, self._job.id, spec.objectives),
            models=self._store,
            minimise=spec.objectives,
            few_trials=spec.budget.trials <= FEW_TRIALS,
        )

    def _search(self, tuners: list[WorkloadTuner], sessions: Sessions) -> None:
        """Trials until the scheduler has no more turns, or a stop."""
        spent = sum(t.seconds for t in tuners)  # by earlier runs of this job
        seconds = self._spec.budget.seconds
        if seconds is not None:
            self._deadline = self._begun + seconds - spent
        self._scheduler = Scheduler(tuners, self._spec.budget.trials * len(tuners), self._deadline, self._clock)
        searching: set[str] = set()
        while self._watch.check() is None and (turn := self._scheduler.next()):
            tuner = turn.tuner
            if tuner.workload.key not in searching:
                searching.add(tuner.workload.key)
                self.event("phase", {"workload": str(tuner.workload), "phase": "search"})
            try:
                tuner.step(
                    sessions.get(tuner.workload),
                    turn.trials,
                    until=turn.until,
                    on_record=self._recorder(tuner),
                    should_stop=lambda: self._watch.check() is not None,
                )
            except _STORE_TROUBLE:
                raise
            except FettleError as problem:
                tuner.error = str(problem)
            finally:
                self._journal.flush()

    def _finals(self, tuners: list[WorkloadTuner], sessions: Sessions, roofs: Roofs) -> None:
        """Decide and store the winners; shorter if cancelled, left for later if paused."""
        for number, tuner in enumerate(tuners):
            stop = self._watch.check()
            if stop is Stop.PAUSE:
                return
            until = self._clock() + (self._deadline - self._clock()) / (len(tuners) - number)
            verdict = None
            if tuner.best_s is not None:
                self.event("phase", {"workload": str(tuner.workload), "phase": "finals"})
                try:
                    verdict = tuner.play_finals(sessions.get(tuner.workload), until, stop is Stop.CANCEL)
                except FettleError as problem:
                    tuner.error = str(problem)
            if verdict is None:
                self._finish(failed_result(tuner, why_no_kernel(tuner, stop is Stop.CANCEL)))
                continue
            tuner.bound = roofs.bound_below(tuner.workload, verdict.best_s)
            self._store.put_artifact(verdict.winner.artifact)
            self._store.put_kernel(won_kernel(tuner, verdict, self._job.id, time.time()))
            self._finish(won_result(tuner, verdict))

    # --------------------------------------------------------------------------------------- recording

    def event(self, kind: str, data: dict[str, object]) -> None:
        """Append an event and show it."""
        self._show(self._store.append_event(self._job.id, kind, data))

    def _show(self, event: JobEvent) -> None:
        if self._on_event is not None:
            self._on_event(event)

    def _finish(self, result: WorkloadResult) -> None:
        self._store.put_result(self._job.id, result)
        self._finished[result.workload.key] = result
        self.event("result", codec.to_data(result))

    def _recorder(self, tuner: WorkloadTuner) -> Callable[[Record], None]:
        return lambda record: self._journal.add(record, self._trial_data(tuner, record))

    def _trial_data(self, tuner: WorkloadTuner, record: Record) -> dict[str, object]:
        assert self._scheduler is not None
        schedule: Mapping[str, object] = record.candidate.schedule.as_dict()
        return {
            "workload": str(tuner.workload),
            "trial": tuner.trials,
            "trials": self._spec.budget.trials,
            "outcome": record.measurement.outcome.value,
            "seconds": record.measurement.time if is_valid(record) else None,
            "best_s": tuner.best_s,
            "failed": tuner.failed,
            "schedule": dict(schedule),
            "eta_s": self._scheduler.eta(),
            "done": self._scheduler.done,
            "total": self._scheduler.total,
        }
