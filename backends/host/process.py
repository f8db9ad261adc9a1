"""One worker process: started, asked, watched, killed, and started again when next needed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping, Sequence
from typing import TypeVar

from fettle.backends.api import Measurement, Outcome
from fettle.backends.host.protocol import Done, Reply, Request, Setup
from fettle.backends.host.running import Running, TimedOut, TooMuchMemory
from fettle.graph.errors import Cancelled, InvalidArgument, Unavailable

R = TypeVar("R", bound=Reply)

_START_TIMEOUT = 120.0
"""Seconds a worker may take to import its backend."""


class WorkerFailure(Exception):
    """A worker did not answer: TIMEOUT or CRASH. The process is gone.

    Attributes:
        killed: somebody else ended it with SIGKILL (a system that ran out of memory, a person).
    """

    def __init__(self, outcome: Outcome, message: str, *, killed: bool = False) -> None:
        super().__init__(message)
        self.measurement = Measurement.failure(outcome, message)
        self.killed = killed


class WorkerProcess:
    """A slot for a worker process. One call at a time; :meth:`kill` and :meth:`close` come from any thread.

    Args:
        setup: sent to each new process first.
        environment: variables added to ours.
        memory_limit: bytes of private memory the process and its children may use while they work for us.
    """

    def __init__(self, setup: Setup, environment: Mapping[str, str], memory_limit: int) -> None:
        self._setup = setup
        self._environment = dict(environment)
        self._memory_limit = memory_limit
        self._calling = threading.RLock()
        self._guard = threading.Lock()  # protects the two below; held for moments only
        self._running: Running | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The process at present, if there is one."""
        running = self._running
        return running.pid if running else None

    def start(self) -> None:
        """Start a process unless there is one; does not wait for it.

        Raises:
            Unavailable: the system refuses.
            Cancelled: closed.
        """
        with self._calling:
            self._ensure_started()

    def settle(self) -> None:
        """If a process is starting, wait until it is ready, or has failed (the next call will tell)."""
        with self._calling:
            if self._running is not None and not self._running.ready:
                with contextlib.suppress(Unavailable):
                    self._ensure_ready()

    def prepare(self) -> int:
        """Make sure of a live, ready process; its id. Raises as :meth:`call`, but for WorkerFailure."""
        with self._calling:
            return self._ensure_ready().pid

    def call(self, request: Request, reply: type[R], timeout: float, doing: str, descriptors: Sequence[int] = ()) -> R:
        """Send a request and wait for its reply.

        Args:
            reply: the class of the reply.
            timeout: seconds; starting a process does not count.
            doing: what the worker is doing, for messages (``building``).
            descriptors: open files sent along.

        Raises:
            WorkerFailure: no reply in time, or the process died; it is replaced at the next call.
            Unavailable: no process can be started.
            Cancelled: closed meanwhile.
        """
        with self._calling:
            return self._exchange(self._ensure_ready(), request, reply, timeout, doing, descriptors)

    def insist(self, request: Request, reply: type[R], timeout: float, doing: str) -> R:
        """As :meth:`call`, but if somebody else kills the process, once more in a new one."""
        try:
            return self.call(request, reply, timeout, doing)
        except WorkerFailure as failure:
            if not failure.killed:
                raise
        return self.call(request, reply, timeout, doing)

    def kill(self) -> None:
        """Kill the process; a call in progress ends at once."""
        with self._guard:
            if self._running is not None:
                self._running.kill()

    def condemn(self) -> None:
        """Kill the process for good, without waiting for its end. Idempotent; a call in progress raises Cancelled."""
        with self._guard:
            self._closed = True
            if self._running is not None:
                self._running.kill()

    def close(self) -> None:
        """As :meth:`condemn`, and wait."""
        self.condemn()
        with self._calling:
            self._dispose()

    def _ensure_started(self) -> Running:
        running = self._running
        if running is not None and running.ready and running.hung_up:  # it died between two calls
            self._dispose()
        with self._guard:
            if self._closed:
                raise Cancelled("the executor was closed")
            if self._running is None:
                self._running = Running.start(self._setup, self._environment, self._memory_limit)
            return self._running

    def _ensure_ready(self) -> Running:
        running = self._ensure_started()
        if not running.ready:
            try:
                answer = self._exchange(running, None, Done, _START_TIMEOUT, "starting")
            except WorkerFailure as failure:
                raise Unavailable(f"no worker can be started: {failure}") from None
            if answer.error:
                self._dispose()
                raise Unavailable(f"no worker can be started: {answer.error}")
            running.ready = True
        return running

    def _exchange(
        self,
        running: Running,
        request: Request | None,
        reply: type[R],
        timeout: float,
        doing: str,
        descriptors: Sequence[int] = (),
    ) -> R:
        """One exchange; whatever goes wrong, the process is disposed of: a late reply would answer the next request."""
        killed = False
        try:
            answer = running.exchange(request, timeout, descriptors)
            if not isinstance(answer, reply):
                raise InvalidArgument(f"a worker answered {type(answer).__name__}")
            return answer
        except TimedOut:
            outcome, message = Outcome.TIMEOUT, f"{doing} took longer than {timeout:g} s"
        except TooMuchMemory as error:
            outcome, message = Outcome.CRASH, f"the worker was killed while {doing}: {error}"
        except OSError:
            how, killed = running.ending()
            outcome, message = Outcome.CRASH, f"while {doing}, the worker {how}"
        except InvalidArgument as error:  # a kernel wrote over the worker's memory
            outcome, message = Outcome.CRASH, f"while {doing}, the worker answered nonsense: {error}"
        except BaseException:  # KeyboardInterrupt
            self._dispose()
            raise
        self._dispose()
        if self._closed:
            raise Cancelled("the executor was closed")
        raise WorkerFailure(outcome, message, killed=killed)

    def _dispose(self) -> None:
        with self._guard:
            running, self._running = self._running, None
        if running is not None:
            running.dispose()
