"""Runs one stored job from beginning to end, or from where it stopped."""

from __future__ import annotations

import functools
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence

from fettle.backends.api import Backend, Device, Record, Space, Support
from fettle.backends.host.executor import Executor, make_executor
from fettle.backends.registry import get_backend
from fettle.backends.returned import returned
from fettle.costmodel.model import import_libraries
from fettle.graph.errors import Cancelled, DataLoss, FettleError, NotFound, StoreFull, StoreUnavailable
from fettle.graph.workload import Workload
from fettle.search.elsewhere import trials_elsewhere
from fettle.search.lite import FEW_TRIALS
from fettle.search.progress import Progress
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
from fettle.search.tuner import WorkloadTuner
from fettle.search.watch import Stop, Watch
from fettle.store.api import Store
from fettle.store.jobs import Job, JobEvent, JobState, WorkloadResult
from fettle.store.kernels import Kernel
from fettle.store.lookup import lookup

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
        job = store.get_job(job_id)
        progress = Progress(store, job, clock, on_event)
        progress.state(JobState.RUNNING)
        run = _Run(store, job, Watch(store, job_id, held, cancel, pause, clock), progress, sampler, clock)
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
        progress.state(state, error)
        return store.get_job(job_id)


class _Run:
    """One run of one job; see :func:`run_job`."""

    def __init__(
        self,
        store: Store,
        job: Job,
        watch: Watch,
        progress: Progress,
        sampler: SamplerFactory,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._job = job
        self._spec = job.spec
        self._watch = watch
        self._progress = progress
        self._sampler = sampler
        self._clock = clock
        self._begun = clock()
        self._deadline = math.inf

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
        results = self._progress.finished
        if len(results) < len(self._spec.workloads):
            return JobState.PAUSED, ""
        if stop is Stop.CANCEL:
            return JobState.CANCELLED, ""
        errors = [f"{r.workload}: {r.error}" for r in results.values() if r.error]
        if len(errors) == len(self._spec.workloads):
            return JobState.FAILED, "; ".join(errors)
        return JobState.DONE, ""

    def _settle_without_tuning(self, backend: Backend) -> list[tuple[Workload, int]]:
        """Results for what needs no tuning; returns the rest."""
        rest = []
        for workload, count in self._spec.workloads:
            if workload.key in self._progress.finished:
                continue
            support = returned(backend.supports(workload, self._spec.device), Support, backend, "supports")
            anew = self._spec.force or len(self._spec.objectives) > 1
            found = None if anew else lookup(self._store, workload, self._spec.device, self._spec.policy.mode)
            if found is not None and found.kernel is not None and self._is_whole(found.kernel):
                self._progress.finish(cached_result(workload, count, found.kernel))
            elif not support:
                self._progress.finish(WorkloadResult(workload, count, error=support.reason))
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
        profiling = functools.partial(self._progress.phase, "profile")
        try:
            with self._watch.closing(executor):
                return Roofs(self._store, backend, self._spec.device, executor, profiling)
        except Cancelled:
            if self._watch.check() is Stop.CANCEL:
                for workload, count in work:
                    self._progress.finish(WorkloadResult(workload, count, error=CANCELLED_UNTRIED))
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
                self._progress.finish(WorkloadResult(workload, count, error=CANCELLED_UNTRIED))
                continue
            try:
                tuners.append(self._tuner(backend, workload, count, history, roofs))
            except _STORE_TROUBLE:
                raise
            except FettleError as problem:
                self._progress.finish(WorkloadResult(workload, count, error=str(problem)))
        return tuners

    def _tuner(
        self, backend: Backend, workload: Workload, count: int, history: Sequence[Record], roofs: Roofs
    ) -> WorkloadTuner:
        spec = self._spec
        space = returned(backend.space(workload, spec.device), Space, backend, "space")
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
        scheduler = Scheduler(tuners, self._spec.budget.trials * len(tuners), self._deadline, self._clock)
        searching: set[str] = set()
        while self._watch.check() is None and (turn := scheduler.next()):
            tuner = turn.tuner
            if tuner.workload.key not in searching:
                searching.add(tuner.workload.key)
                self._progress.phase("search", str(tuner.workload))
            try:
                tuner.step(
                    sessions.get(tuner.workload),
                    turn.trials,
                    until=turn.until,
                    on_record=functools.partial(self._progress.trial, tuner, scheduler),
                    should_stop=lambda: self._watch.check() is not None,
                )
            except _STORE_TROUBLE:
                raise
            except FettleError as problem:
                tuner.error = str(problem)
            finally:
                self._progress.flush()

    def _finals(self, tuners: list[WorkloadTuner], sessions: Sessions, roofs: Roofs) -> None:
        """Decide and store the winners; shorter if cancelled, left for later if paused."""
        for number, tuner in enumerate(tuners):
            stop = self._watch.check()
            if stop is Stop.PAUSE:
                return
            until = self._clock() + (self._deadline - self._clock()) / (len(tuners) - number)
            verdict = None
            if tuner.best_s is not None:
                self._progress.phase("finals", str(tuner.workload))
                try:
                    verdict = tuner.play_finals(sessions.get(tuner.workload), until, stop is Stop.CANCEL)
                except FettleError as problem:
                    tuner.error = str(problem)
            if verdict is None:
                self._progress.finish(failed_result(tuner, why_no_kernel(tuner, stop is Stop.CANCEL)))
                continue
            tuner.bound = roofs.bound_below(tuner.workload, verdict.best_s)
            self._store.put_artifact(verdict.winner.artifact)
            self._store.put_kernel(won_kernel(verdict, tuner.bound, tuner.trials, self._job.id, time.time()))
            self._progress.finish(won_result(tuner, verdict))
