"""One worker process: started, asked, watched, killed, and started again when next needed."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TypeVar

import attrs

from fettle.backends.api import Measurement, Outcome
from fettle.backends.host import memory
from fettle.backends.host.protocol import HEADER, Done, Reply, Request, Setup, body_length, frame, parse
from fettle.graph.errors import Cancelled, InvalidArgument, Unavailable

R = TypeVar("R", bound=Reply)

_START_TIMEOUT = 120.0
"""Seconds a worker may take to import its backend."""
_TICK = 0.025
"""Seconds between two looks at a working process's memory."""
_GRACE = 2.0
"""Seconds a worker that hung up may take to end."""
_TAIL = 1200
"""Bytes of a worker's output kept for messages."""


class WorkerFailure(Exception):
    """A worker did not answer: TIMEOUT or CRASH. The process is gone."""

    def __init__(self, outcome: Outcome, message: str) -> None:
        super().__init__(message)
        self.measurement = Measurement.failure(outcome, message)


@attrs.define(eq=False)
class _Running:
    """A process and the host's ends of its pipes. ``ready`` once it answered its Setup."""

    process: subprocess.Popen[bytes]
    channel: socket.socket
    lifeline: int
    output: int
    tail: bytes = b""
    ready: bool = False

    def kill(self) -> None:
        """Kill it and whatever it started; the group lives on until its leader is reaped, so its id is ours."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def dispose(self, grace: float) -> int:
        """Kill, reap, close; the exit status, negative for a signal.

        Args:
            grace: seconds to let a process that is ending by itself do so, to learn how it ended.
        """
        if grace:
            with contextlib.suppress(ChildProcessError):
                _wait_for_exit(self.process.pid, grace)
        self.kill()
        status = self.process.wait()
        self.drain()
        self.channel.close()
        os.close(self.lifeline)
        os.close(self.output)
        return status

    def drain(self) -> None:
        """Take what it printed."""
        with contextlib.suppress(BlockingIOError):
            while printed := os.read(self.output, 1 << 16):
                self.tail = (self.tail + printed)[-_TAIL:]


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
        self._running: _Running | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The process at present, if there is one."""
        running = self._running
        return running.process.pid if running else None

    def start(self) -> None:
        """Start a process unless there is one; does not wait for it."""
        with self._calling:
            self._ensure_started()

    def settle(self) -> None:
        """If a process is starting, wait until it is ready, or has failed (the next call will tell)."""
        with self._calling:
            if self._running is not None and not self._running.ready:
                with contextlib.suppress(Unavailable):
                    self._ensure_ready()

    def prepare(self) -> int:
        """Make sure of a live, ready process; its id.

        Raises:
            Unavailable: no process can be started.
            Cancelled: closed.
        """
        with self._calling:
            return self._ensure_ready().process.pid

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
            running = self._ensure_ready()
            return self._exchange(running, request, reply, timeout, doing, descriptors)

    def kill(self) -> None:
        """Kill the process; a call in progress ends at once."""
        with self._guard:
            if self._running is not None:
                self._running.kill()

    def close(self) -> None:
        """Kill the process for good. Idempotent; a call in progress raises Cancelled."""
        with self._guard:
            self._closed = True
            if self._running is not None:
                self._running.kill()
        with self._calling:
            self._dispose()

    # ------------------------------------------------------------------------------------------- internals

    def _ensure_started(self) -> _Running:
        running = self._running
        if running is not None and running.ready and _hung_up(running.channel):  # died between two calls
            self._dispose()
        with self._guard:
            if self._closed:
                raise Cancelled("the worker was closed")
            if self._running is None:
                self._running = _spawn(self._setup, self._environment)
            return self._running

    def _ensure_ready(self) -> _Running:
        running = self._ensure_started()
        if not running.ready:
            try:
                answer = self._exchange(running, None, Done, _START_TIMEOUT, "starting", ())
            except WorkerFailure as failure:
                raise Unavailable(f"no worker can be started: {failure}") from None
            if answer.error:
                self._dispose()
                raise Unavailable(f"no worker can be started: {answer.error}")
            running.ready = True
        return running

    def _exchange(
        self,
        running: _Running,
        request: Request | None,
        reply: type[R],
        timeout: float,
        doing: str,
        descriptors: Sequence[int],
    ) -> R:
        running.drain()
        running.tail = b"" if running.ready else running.tail
        watch = _Watch(running, timeout, self._memory_limit)
        try:
            if request is not None:
                watch.send(frame(request), descriptors)
            answer = parse(watch.receive())
            if not isinstance(answer, reply):
                raise InvalidArgument(f"reply {type(answer).__name__}")
            return answer
        except _TimedOut:
            self._dispose()
            self._raise_if_closed()
            raise WorkerFailure(Outcome.TIMEOUT, f"{doing} took longer than {timeout:g} s") from None
        except _TooMuchMemory as error:
            self._dispose()
            raise WorkerFailure(Outcome.CRASH, f"killed while {doing}: {error}") from None
        except (InvalidArgument, OSError) as error:
            status = self._dispose(grace=_GRACE if isinstance(error, OSError) else 0.0)
            self._raise_if_closed()
            how = _ending(status) if isinstance(error, OSError) else f"answered nonsense ({error})"
            raise WorkerFailure(Outcome.CRASH, f"the worker {how} while {doing}{_quoted(running.tail)}") from None
        except BaseException:  # KeyboardInterrupt: a reply to come would answer the next request
            self._dispose()
            raise

    def _raise_if_closed(self) -> None:
        if self._closed:
            raise Cancelled("the worker was closed")

    def _dispose(self, grace: float = 0.0) -> int:
        with self._guard:
            running, self._running = self._running, None
        return running.dispose(grace) if running is not None else 0


class _TimedOut(Exception):
    pass


class _TooMuchMemory(Exception):
    pass


class _Watch:
    """Moves one request and its reply while watching the clock, the worker's output and its memory."""

    def __init__(self, running: _Running, timeout: float, memory_limit: int) -> None:
        self._running = running
        self._deadline = time.monotonic() + timeout
        self._memory_limit = memory_limit
        self._next_look = time.monotonic() + _TICK

    def send(self, data: bytes, descriptors: Sequence[int]) -> None:
        rest = memoryview(data)
        if descriptors:
            sent = socket.send_fds(self._running.channel, [rest], list(descriptors))
            rest = rest[sent:]
        while rest:
            try:
                rest = rest[self._running.channel.send(rest) :]
            except BlockingIOError:
                self._wait(select.POLLOUT)

    def receive(self) -> bytes:
        header = self._read(HEADER.size)
        return self._read(body_length(header))

    def _read(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            try:
                received = self._running.channel.recv(min(count - len(data), 1 << 20))
            except BlockingIOError:
                self._wait(select.POLLIN)
                continue
            if not received:
                raise ConnectionResetError("the worker hung up")
            data += received
        return bytes(data)

    def _wait(self, event: int) -> None:
        """Until the channel is ready for ``event``."""
        poll = select.poll()
        poll.register(self._running.channel, event)
        poll.register(self._running.output, select.POLLIN)
        while True:
            now = time.monotonic()
            if now >= self._deadline:
                raise _TimedOut
            if now >= self._next_look:
                self._look_at_memory()
                self._next_look = now + _TICK
            until = min(self._deadline, self._next_look)
            ready = dict(poll.poll(max(0.0, until - now) * 1000))
            if self._running.output in ready:
                self._running.drain()
                if ready[self._running.output] & select.POLLHUP:  # closed: it would be ready for ever
                    poll.unregister(self._running.output)
            if self._running.channel.fileno() in ready:
                return

    def _look_at_memory(self) -> None:
        used = memory.used_by(self._running.process.pid)
        if used > self._memory_limit:
            raise _TooMuchMemory(f"{used >> 20} MiB of memory in use, {self._memory_limit >> 20} MiB allowed")


def _spawn(setup: Setup, environment: Mapping[str, str]) -> _Running:
    """A new interpreter in a session of its own, so that a terminal's Ctrl-C reaches the host alone.

    The setup is sent at once: the worker imports its backend while the host does something else.
    """
    ours, theirs = socket.socketpair()
    lifeline_read, lifeline_write = os.pipe()
    output_read, output_write = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "fettle.backends.host.worker", str(theirs.fileno()), str(lifeline_read)],
            stdin=subprocess.DEVNULL,
            stdout=output_write,
            stderr=output_write,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **environment},
            pass_fds=(theirs.fileno(), lifeline_read),
            start_new_session=True,
        )
        ours.sendall(frame(setup))
    except BaseException as error:
        ours.close()
        os.close(lifeline_write)
        os.close(output_read)
        if isinstance(error, OSError):
            raise Unavailable(f"no worker can be started: {error}") from error
        raise
    finally:
        theirs.close()
        os.close(lifeline_read)
        os.close(output_write)
    ours.setblocking(False)
    os.set_blocking(output_read, False)
    return _Running(process, ours, lifeline_write, output_read)


def _wait_for_exit(pid: int, seconds: float) -> None:
    """Wait until a child has ended, without reaping it: its group must stay ours to kill."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return
        time.sleep(0.001)


def _hung_up(channel: socket.socket) -> bool:
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    return bool(poll.poll(0))  # between two calls a worker says nothing


def _ending(status: int) -> str:
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"crashed with {signal.Signals(-status).name}"
    except ValueError:
        return f"crashed with signal {-status}"


def _quoted(tail: bytes) -> str:
    """The last lines a worker printed, without Python's listing of extension modules."""
    lines = [line for line in tail.decode(errors="replace").splitlines() if not line.startswith("Extension modules:")]
    text = "\n".join(lines).strip()
    return f"; its last words:\n{text}" if text else ""
