"""Calls of kernels of several threads on a machine that others use too.

Such a call lasts as long as its slowest thread. While threads of the pool wait for each other they yield the processor
again and again, and where another process wants it, each time for a whole time slice: milliseconds, whatever the
kernel takes. One thread never waits. So after a call that has lost time, the calling thread makes its calls alone for a
while. A kernel computes the same alone, bit for bit: its one thread takes all parts of the work.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from fettle.backends.cpu import threads
from fettle.graph.errors import InvalidArgument

Launch = Callable[[tuple[Any, ...]], None]
"""Calls a kernel on its arguments."""

VARIABLE = "FETTLE_THREADS"
ADAPTIVE, FIXED = "adaptive", "fixed"

_SLACK = 1e-3
"""Seconds a call may lose: less than a time slice, more than caches and interrupts cost."""

_ALONE = 16
"""Times what a call lost: finding out whether the others are still there takes about 1/16 of the time."""

_LONGEST = 1.0
"""Seconds alone at most. A process that was stopped for an hour has lost an hour."""


class _CallingThread(threading.local):
    """The time up to which this thread makes its calls alone."""

    alone_until = -math.inf


_local = _CallingThread()


def launcher(count: int, function: Callable[..., None]) -> Launch:
    """Calls of a kernel on ``count`` threads: always, or where nobody else wants them, as FETTLE_THREADS says.

    Raises:
        InvalidArgument: it says neither ``adaptive`` nor ``fixed``.
    """
    value = os.environ.get(VARIABLE, ADAPTIVE)
    if value not in (ADAPTIVE, FIXED):
        raise InvalidArgument(f"{VARIABLE} is {value!r}", hint=f"set it to {ADAPTIVE} (the default) or {FIXED}")
    return Launcher(count, function) if value == ADAPTIVE else partial(threads.call, count, function)


@contextmanager
def fixed() -> Iterator[None]:
    """Kernels that are loaded meanwhile keep their thread counts."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = FIXED
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


class Launcher:
    """Calls a kernel on ``count`` threads, or alone while others keep the processors busy.

    Alone, the fastest call so far would have taken about ``count`` times as long at most; a call that took longer than
    that has lost the difference. Safe for several calling threads: each is alone or not by its own calls.
    """

    def __init__(
        self, count: int, function: Callable[..., None], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._count = count
        self._function = function
        self._clock = clock
        self._fastest = math.inf

    def __call__(self, arguments: tuple[Any, ...]) -> None:
        start = self._clock()
        if start < _local.alone_until:
            threads.call(1, self._function, arguments)
            return
        threads.call(self._count, self._function, arguments)
        end = self._clock()
        seconds = end - start
        if seconds < self._fastest:
            self._fastest = seconds
        elif (lost := seconds - self._count * self._fastest) > _SLACK:
            _local.alone_until = end + min(_ALONE * lost, _LONGEST)
