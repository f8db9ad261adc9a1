"""The executor on this machine: builders compile side by side, one measuring worker verifies and times alone."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import LifoQueue

import attrs

from fettle.backends.api import Backend, Candidate, Device, MeasurePolicy, Profile
from fettle.backends.host import memory
from fettle.backends.host.exclusion import Exclusion
from fettle.backends.host.executor import BuildResult, Executor, Session
from fettle.backends.host.measuring import MeasuringWorker, SessionData
from fettle.backends.host.operands import SharedOperands
from fettle.backends.host.process import WorkerFailure, WorkerProcess
from fettle.backends.host.protocol import BUILD, MEASURE, Build, Built, Profiled, Setup, TakeProfile
from fettle.backends.host.session import LocalSession
from fettle.graph.errors import FettleError, InvalidArgument, Unavailable
from fettle.graph.workload import Workload

_MOST_BUILDERS = 16
_PROFILE_TIMEOUT = 300.0


class LocalExecutor(Executor):
    """Workers for one device of this machine.

    The processes start at once, in the background, and live until :meth:`close`; whatever happens to this
    process, they die with it. Methods may be called from several threads.

    Args:
        backend: its class must be importable (``module:Class``): each worker makes its own instance.
        device: the device to drive.
        builders: processes that compile at the same time; the usable cores, at most 16, unless given.
        memory_limit: bytes a builder may use before it is killed; an even share of the machine unless given.
        isolated: builders rest while something is measured. Not needed where the device keeps time itself.

    Raises:
        InvalidArgument: no builders, or a backend class that cannot be imported by name.
    """

    def __init__(
        self,
        backend: Backend,
        device: Device,
        *,
        builders: int | None = None,
        memory_limit: int | None = None,
        isolated: bool = True,
    ) -> None:
        count = min(len(os.sched_getaffinity(0)), _MOST_BUILDERS) if builders is None else builders
        if count < 1:
            raise InvalidArgument(f"an executor needs at least one builder, not {count}")
        self._backend = backend
        self._device = device
        self._isolated = isolated
        everything = memory.total()
        share = everything // (count + 1) if memory_limit is None else memory_limit
        setup = Setup(_class_path(backend), device, BUILD, tuple(os.path.abspath(entry) for entry in sys.path))
        measuring = attrs.evolve(setup, role=MEASURE, packed_budget=everything // 8)
        environment = dict(backend.worker_environment(device))
        self._builders = [WorkerProcess(setup, environment, share) for _ in range(count)]
        self._measuring = MeasuringWorker(WorkerProcess(measuring, environment, everything * 3 // 4))
        self._idle: LifoQueue[WorkerProcess] = LifoQueue()
        self._exclusion = Exclusion()
        self._numbers = itertools.count(1)
        self._is_warm = False
        workers = (*self._builders, self._measuring.process)
        # also runs when the interpreter ends, but not in a fork of this process, whose workers these are not
        self._finalizer = weakref.finalize(self, _close_all, self._exclusion, workers, os.getpid())
        for worker in workers:
            worker.start()
        for worker in self._builders:
            self._idle.put(worker)

    @property
    def device(self) -> Device:
        return self._device

    def open(self, workload: Workload, policy: MeasurePolicy, seed: int) -> Session:
        memory.require(workload)
        self._warm_up(workload, policy.timeout)
        data = SessionData(next(self._numbers), workload, SharedOperands(workload, seed))
        return LocalSession(self, data, policy)

    def profile(self) -> Profile:
        """Measure the device's roofs in the measuring worker, while nothing else runs.

        Raises:
            Unavailable: the backend failed, or took longer than five minutes.
            Cancelled: closed meanwhile.
        """
        with self.measuring() as worker:
            try:
                answer = worker.process.insist(TakeProfile(), Profiled, _PROFILE_TIMEOUT, "profiling")
            except WorkerFailure as failure:
                raise Unavailable(f"{self._device} cannot be profiled: {failure}") from None
        if answer.profile is None:
            raise Unavailable(f"{self._device} cannot be profiled: {answer.error}")
        return answer.profile

    def close(self) -> None:
        """Kill the workers. Idempotent; calls in progress in other threads raise Cancelled."""
        self._finalizer()

    def _warm_up(self, workload: Workload, timeout: float) -> None:
        """Have each builder compile the first workload's default schedule once, while operands are prepared.

        A compiler is imported at its first use, which takes seconds; that is neither to be charged to the first
        candidates nor waited for later. The results are of no interest: failures will show in real builds.
        """
        if self._is_warm:
            return
        self._is_warm = True

        def build() -> None:
            with contextlib.suppress(FettleError):
                schedule = self._backend.default(workload, self._device)
                self.build([Candidate(workload, self._device, schedule)] * len(self._builders), timeout)

        threading.Thread(target=build, name="fettle-warm-up", daemon=True).start()

    # ------------------------------------------------------------------------------------ for its sessions

    @contextmanager
    def measuring(self) -> Iterator[MeasuringWorker]:
        """The measuring worker, while nothing else is measured and, if isolated, no builder works or starts."""
        with self._exclusion.exclusive():
            if self._isolated:
                for builder in self._builders:
                    builder.settle()
            yield self._measuring

    def build(self, candidates: Sequence[Candidate], timeout: float) -> list[BuildResult]:
        """Compile on all builders; ``timeout`` seconds each."""
        results: list[BuildResult | None] = [None] * len(candidates)
        errors: list[BaseException] = []
        waiting = deque(enumerate(candidates))
        busy: set[WorkerProcess] = set()

        def work() -> None:
            builder = self._idle.get()
            busy.add(builder)
            try:
                while waiting:
                    try:
                        index, candidate = waiting.popleft()
                    except IndexError:  # another thread took the last one
                        return
                    with self._exclusion.shared() if self._isolated else contextlib.nullcontext():
                        results[index] = _build(builder, candidate, timeout)
            except BaseException as error:
                waiting.clear()
                errors.append(error)
            finally:
                busy.discard(builder)
                self._idle.put(builder)

        threads = [
            threading.Thread(target=work, name=f"fettle-build-{i}", daemon=True)
            for i in range(min(len(candidates), len(self._builders)))
        ]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        except BaseException:  # KeyboardInterrupt: do not wait for compilers
            waiting.clear()
            for builder in list(busy):
                builder.kill()
            raise
        if errors:
            raise errors[0]
        return [result for result in results if result is not None]


def _build(builder: WorkerProcess, candidate: Candidate, timeout: float) -> BuildResult:
    started = time.perf_counter()
    try:
        built = builder.insist(Build(candidate), Built, timeout, "building")
    except WorkerFailure as failure:
        built = Built(failure=failure.measurement)
    return BuildResult(candidate, built.artifact, built.failure, time.perf_counter() - started)


def _class_path(backend: Backend) -> str:
    kind = type(backend)
    if kind.__module__ == "__main__" or "<locals>" in kind.__qualname__:
        raise InvalidArgument(
            f"backend class {kind.__qualname__} cannot be imported by a worker", hint="define it in a module"
        )
    return f"{kind.__module__}:{kind.__qualname__}"


def _close_all(exclusion: Exclusion, workers: Sequence[WorkerProcess], owner: int) -> None:
    if os.getpid() != owner:
        return
    exclusion.close()
    for worker in workers:
        worker.condemn()  # all at once, before any is waited for, and for good: what ends now is cancelled, not crashed
    for worker in workers:
        worker.close()
