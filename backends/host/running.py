"""A started worker process: its pipes, and one exchange with it under the eyes of a clock and a memory limit."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from fettle.backends.host import memory
from fettle.backends.host.protocol import HEADER, Request, Setup, body_length, frame, parse
from fettle.graph.errors import Unavailable

_TICK = 0.025
"""Seconds between two looks at a working process's memory."""
_GRACE = 2.0
"""Seconds a worker that hung up may take to end."""
_TAIL = 1500
"""Bytes of a worker's output kept for messages."""


class TimedOut(Exception):
    """No reply in time."""


class TooMuchMemory(Exception):
    """The worker uses more memory than it may."""


class Running:
    """A process in a session and process group of its own.

    Attributes:
        ready: it has answered its Setup.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], channel: socket.socket, lifeline: int, output: int, memory_limit: int
    ) -> None:
        self.ready = False
        self._killed = False  # by us
        self._process = process
        self._channel = channel
        self._lifeline = lifeline
        self._output = output
        self._memory_limit = memory_limit
        self._tail = b""
        self._deadline = self._next_look = 0.0

    @classmethod
    def start(cls, setup: Setup, environment: Mapping[str, str], memory_limit: int) -> Running:
        """A new interpreter; a terminal's Ctrl-C reaches the host alone.

        The setup is sent at once, so that the worker imports its backend while the host does something else.

        Raises:
            Unavailable: the system has no process or no descriptors for us.
        """
        program = [sys.executable, "-P", "-m", "fettle.backends.host.worker"]
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            try:
                channel, their_channel = socket.socketpair()
                ours.enter_context(channel)
                theirs.enter_context(their_channel)
                their_lifeline, lifeline = _pipe(theirs, ours)
                output, their_output = _pipe(ours, theirs)
                process = subprocess.Popen(
                    [*program, str(their_channel.fileno()), str(their_lifeline)],
                    stdin=subprocess.DEVNULL,
                    stdout=their_output,
                    stderr=their_output,
                    env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **environment},
                    pass_fds=(their_channel.fileno(), their_lifeline),
                    start_new_session=True,
                )
                channel.sendall(frame(setup))
            except OSError as error:
                raise Unavailable(f"no worker can be started: {error}") from error
            ours.pop_all()  # stays open
        channel.setblocking(False)
        os.set_blocking(output, False)
        return cls(process, channel, lifeline, output, memory_limit)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def hung_up(self) -> bool:
        """It ended, or said something nobody asked for."""
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        return bool(poll.poll(0))

    def exchange(self, request: Request | None, timeout: float, descriptors: Sequence[int] = ()) -> Any:
        """Send a request, if one is given, and wait for the reply.

        Raises:
            TimedOut, TooMuchMemory: as they say; the process still runs.
            OSError: it hung up.
            InvalidArgument: its reply is no message.
        """
        now = time.monotonic()
        self._deadline, self._next_look = now + timeout, now + _TICK
        if request is not None:
            self._drain()
            self._tail = b""
            self._send(frame(request), descriptors)
        return parse(self._read(body_length(self._read(HEADER.size))))

    def kill(self) -> None:
        """Kill it and whatever it started; the group's id is ours until its leader is reaped."""
        if self._process.returncode is None:
            self._killed = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def dispose(self) -> None:
        """Kill, reap, close."""
        self.kill()
        self._process.wait()
        self._channel.close()
        os.close(self._lifeline)
        os.close(self._output)

    def ending(self) -> tuple[str, bool]:
        """How a process that hung up ended, with the last lines it printed; and whether somebody else killed it."""
        deadline = time.monotonic() + _GRACE
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT  # unreaped: its group must stay ours to kill
        end = None
        with contextlib.suppress(ChildProcessError):  # the host ignores SIGCHLD: nobody knows
            while (end := os.waitid(os.P_PID, self.pid, flags)) is None and time.monotonic() < deadline:
                time.sleep(0.001)
        self._drain()
        killed = end is not None and end.si_code == os.CLD_KILLED and end.si_status == signal.SIGKILL
        return f"{_described(end)}{_quoted(self._tail)}", killed and not self._killed

    # ------------------------------------------------------------------------------------------- internals

    def _send(self, data: bytes, descriptors: Sequence[int]) -> None:
        rest = memoryview(data)
        if descriptors:
            rest = rest[socket.send_fds(self._channel, [rest], list(descriptors)) :]
        while rest:
            try:
                rest = rest[self._channel.send(rest) :]
            except BlockingIOError:
                self._wait(select.POLLOUT)

    def _read(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            try:
                received = self._channel.recv(min(count - len(data), 1 << 20))
            except BlockingIOError:
                self._wait(select.POLLIN)
                continue
            if not received:
                raise ConnectionResetError("the worker hung up")
            data += received
        return bytes(data)

    def _wait(self, event: int) -> None:
        """Until the channel is ready for ``event``; takes the worker's output so that printing never blocks it."""
        poll = select.poll()
        poll.register(self._channel, event)
        poll.register(self._output, select.POLLIN)
        while True:
            now = time.monotonic()
            if now >= self._deadline:
                raise TimedOut
            if now >= self._next_look:
                self._look_at_memory()
                self._next_look = now + _TICK
            ready = dict(poll.poll((min(self._deadline, self._next_look) - now) * 1000))
            if self._output in ready:
                self._drain()
                if ready[self._output] & select.POLLHUP:  # closed: it would be ready for ever
                    poll.unregister(self._output)
            if self._channel.fileno() in ready:
                return

    def _drain(self) -> None:
        """Take what it printed, at most a pipe's worth: one that prints for ever must not hold us."""
        with contextlib.suppress(BlockingIOError):
            self._tail = (self._tail + os.read(self._output, 1 << 20))[-_TAIL:]

    def _look_at_memory(self) -> None:
        used = memory.used_by(self.pid)
        if used > self._memory_limit:
            raise TooMuchMemory(f"{used >> 20} MiB of memory in use, {self._memory_limit >> 20} MiB allowed")


def _pipe(reader: contextlib.ExitStack, writer: contextlib.ExitStack) -> tuple[int, int]:
    """A pipe's ends, (read, write); each is closed when its owner's stack unwinds."""
    ends = os.pipe()
    for owner, end in zip((reader, writer), ends, strict=True):
        owner.callback(os.close, end)
    return ends


def _described(end: os.waitid_result | None) -> str:
    if end is None:
        return "hung up"
    if end.si_code == os.CLD_EXITED:
        return f"exited with status {end.si_status}"
    try:
        return f"crashed with {signal.Signals(end.si_status).name}"
    except ValueError:
        return f"crashed with signal {end.si_status}"


def _quoted(tail: bytes) -> str:
    """The last lines a worker printed, without Python's listing of extension modules."""
    lines = [line for line in tail.decode(errors="replace").splitlines() if not line.startswith("Extension modules:")]
    text = "\n".join(lines).strip()
    return f"; its last words:\n{text}" if text else ""
