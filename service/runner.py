"""Runs stored jobs one at a time, off the event loop: measurements of two jobs at once would disturb each other."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable

import structlog

from fettle.graph.errors import Conflict, FettleError, ResourceExhausted, StoreFull, Unavailable
from fettle.service.jobthread import JobThread, RunJob
from fettle.service.watch import EventHub
from fettle.store.api import Store
from fettle.store.jobs import Job, JobState
from fettle.store.specs import JobSpec

_UNFINISHED = (JobState.QUEUED, JobState.RUNNING, JobState.PAUSED)
_LOOK_FOR_CANCEL = 1.0
"""Seconds between looks for a cancel that another process has put into the store."""

_LOOK_AGAIN = 2.0
"""Seconds between attempts to run jobs that other processes run: theirs may die."""

_LOOK_FOR_JOBS = 30.0
"""Seconds between looks for unfinished jobs of other servers on this store, while there is nothing else to do."""

_RETRY_SECONDS = (1.0, 5.0, 30.0)
"""Waits after the store or device was unavailable, or the store full; the last one repeats."""

log = structlog.get_logger("fettle.service.runner")


class JobManager:
    """The queue of one server. Create it inside the running event loop.

    Servers that share a store finish each other's jobs, each those of the devices it has.

    Args:
        has_device: whether the device a job is for is one of this machine's.
    """

    def __init__(
        self, store: Store, run: RunJob, hub: EventHub, has_device: Callable[[JobSpec], bool] = lambda spec: True
    ) -> None:
        self._store = store
        self._run = run
        self._hub = hub
        self._has_device = has_device
        self._left: set[str] = set()  # jobs of other machines' devices
        self._queue: deque[str] = deque()
        self._more = asyncio.Event()
        self._running: JobThread | None = None
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    @property
    def running(self) -> str | None:
        """Id of the job that runs now."""
        return self._running.job_id if self._running else None

    async def start(self) -> None:
        """Queue what an earlier server left unfinished, oldest first, and begin to work."""
        await self._take_up()
        self._task = asyncio.create_task(self._work(), name="job manager")

    async def _take_up(self) -> None:
        """Queue what other servers, or earlier ones, left unfinished."""
        for job in await asyncio.to_thread(self._unfinished):
            await self.enqueue(job)

    async def enqueue(self, job: Job) -> None:
        """Run the job in its turn; nothing happens if it waits or runs here already.

        A job found running or paused was cut off, and is queued again, unless another process runs it: that one is
        left alone until its process is done or dead.
        """
        if self._has(job.id):
            return
        if job.state is not JobState.QUEUED and await asyncio.to_thread(self._requeue, job.id):
            await self.announce(job.id, JobState.QUEUED)
        if not self._has(job.id):  # another call may have come in between
            self._queue.append(job.id)
            self._more.set()

    def _requeue(self, job_id: str) -> bool:
        """Make a job that nobody runs queued; False if somebody does, or it is final by now."""
        try:
            with self._store.claim_job(job_id):
                return self._store.move_job(job_id, (JobState.RUNNING, JobState.PAUSED), JobState.QUEUED)
        except Conflict:
            return False

    async def announce(self, job_id: str, state: JobState, error: str = "") -> None:
        """Append a state to the job's events, for transitions that no running job reports itself."""
        data: dict[str, object] = {"state": state.value, "error": error}
        await asyncio.to_thread(self._store.append_event, job_id, "state", data)
        self._hub.notify(job_id)

    def _has(self, job_id: str) -> bool:
        return job_id in self._queue or job_id == self.running

    async def cancel(self, job_id: str) -> Job:
        """Ask a job to stop.

        1. Mark it in the store; a job that only waits is cancelled at once.
        2. If it runs here, wake its thread, which keeps the best kernels and ends it.

        Raises:
            NotFound, Conflict: no such job, or it is final.
        """
        job = await asyncio.to_thread(self._store.request_cancel, job_id)
        if job.state is JobState.CANCELLED:
            await self.announce(job_id, JobState.CANCELLED)
        elif self._running is not None and self._running.job_id == job_id:
            self._running.cancel.set()
        self._hub.notify(job_id)
        return job

    async def resume(self, job_id: str) -> Job:
        """Queue a paused job again; one that waits or runs is left as it is.

        Raises:
            NotFound: no such job.
            Conflict: it is final, or for a device of another machine.
        """
        job = await asyncio.to_thread(self._store.get_job, job_id)
        if not await asyncio.to_thread(self._has_device, job.spec):
            raise Conflict(
                f"job {job_id} is for {job.spec.device}, which is not this machine's {job.spec.device_text!r}",
                hint="resume it on a server that has the device",
            )
        if job.state.is_final:
            raise Conflict(f"job {job_id} is {job.state.value} and cannot be resumed", hint="submit it again")
        await self.enqueue(job)
        return await asyncio.to_thread(self._store.get_job, job_id)

    async def stop(self, grace: float) -> None:
        """Pause the running job and wait for it, at most ``grace`` seconds.

        A job that does not stop in time stays marked as running; the next server on this store takes it up.
        """
        self._stopping = True
        self._more.set()
        if self._running is not None:
            self._running.pause.set()
        if self._task is not None:
            _, late = await asyncio.wait({self._task}, timeout=grace)
            if late:
                log.warning("job did not pause in time", job=self.running, grace=grace)
                self._task.cancel()

    async def _work(self) -> None:
        failures = 0
        skipped = 0  # jobs in a row that other processes run
        while not self._stopping:
            self._more.clear()
            if skipped >= len(self._queue):
                await self._wait_for_more()
                skipped = 0
                continue
            job_id = self._queue[0]
            try:
                await self._run_one(job_id)
            except Conflict:
                self._queue.rotate(-1)
                skipped += 1
            except (Unavailable, ResourceExhausted) as error:
                wait = _RETRY_SECONDS[min(failures, len(_RETRY_SECONDS) - 1)]
                failures += 1
                log.warning("cannot run job now", job=job_id, error=str(error), retry_seconds=wait)
                await self._sleep(wait)
            except Exception as error:  # the manager must outlive every job
                log.error("job could not be settled", job=job_id, exc_info=error)
                self._queue.popleft()
            else:
                failures = skipped = 0
                self._queue.popleft()

    async def _wait_for_more(self) -> None:
        """Until jobs come, or it is time to try those of other processes again, or to look for jobs of theirs."""
        try:
            await asyncio.wait_for(self._more.wait(), _LOOK_AGAIN if self._queue else _LOOK_FOR_JOBS)
        except TimeoutError:
            if not self._queue:
                with contextlib.suppress(FettleError):  # the store is away: it is asked again
                    await self._take_up()

    async def _sleep(self, seconds: float) -> None:
        """Sleep, but wake when the server stops."""
        deadline = asyncio.get_running_loop().time() + seconds
        while not self._stopping and (left := deadline - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(min(left, 0.2))

    async def _run_one(self, job_id: str) -> None:
        """Run a job to its end, its pause or its failure.

        Raises:
            Conflict: another process runs it.
            Unavailable, StoreFull: it should be tried again.
        """
        self._running = running = JobThread(job_id)
        try:
            job = await asyncio.to_thread(self._unclaimed, job_id)
            if job.state.is_final:
                return
            if job.cancel_requested:
                running.cancel.set()
            log.info("job starts", job=job_id, title=job.spec.title)
            done = running.start(self._run, self._store, lambda event: self._hub.notify(event.job_id))
            while not done.done():
                await asyncio.wait({done}, timeout=_LOOK_FOR_CANCEL)
                if not running.cancel.is_set() and (await asyncio.to_thread(self._cancel_requested, job_id)):
                    running.cancel.set()
            job = done.result()
            if running.pause.is_set() and job.state is JobState.RUNNING:
                await self._move(job_id, (JobState.RUNNING,), JobState.PAUSED)
            log.info("job ends", job=job_id, state=job.state.value, trials=job.trials)
        except (Conflict, Unavailable, StoreFull):
            raise
        except Exception as error:
            message = error.message if isinstance(error, FettleError) else f"{type(error).__name__}: {error}"
            log.error("job failed", job=job_id, error=message, exc_info=error)
            await self._move(job_id, _UNFINISHED, JobState.FAILED, message)
        finally:
            self._running = None
            self._hub.notify(job_id)

    def _unclaimed(self, job_id: str) -> Job:
        """The job. Raises Conflict if somebody runs it."""
        with self._store.claim_job(job_id):
            return self._store.get_job(job_id)

    def _cancel_requested(self, job_id: str) -> bool:
        try:
            return self._store.get_job(job_id).cancel_requested
        except FettleError:  # the job's own thread meets the same trouble and decides what it means
            return False

    def _unfinished(self) -> list[Job]:
        """Unfinished jobs of this machine's devices, the oldest first; others are named in the log once."""
        ours = []
        for job in sorted(self._store.jobs(_UNFINISHED), key=lambda job: (job.created, job.id)):
            if self._has_device(job.spec):
                ours.append(job)
            elif job.id not in self._left:
                self._left.add(job.id)
                log.warning("job left to a server that has its device", job=job.id, device=str(job.spec.device))
        return ours

    async def _move(self, job_id: str, expected: tuple[JobState, ...], to: JobState, error: str = "") -> None:
        if await asyncio.to_thread(self._store.move_job, job_id, expected, to, error):
            await self.announce(job_id, to, error)
