"""How long a kernel's threads wait for processors that others use, where Linux tells it.

A thread that could run and does not, since its processor runs something else, is in the processor's queue; for each
thread ``schedstat`` counts the nanoseconds of that (Documentation/scheduler/sched-stats in the kernel's sources). That
others use the same caches and memory, or the other half of a core, is not seen there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

TASKS = Path("/proc/self/task")


class Waiting:
    """Adds up how long threads waited in some stretches of time.

    A call lasts as long as its slowest thread, so that what counts of a stretch is the thread that waited longest.
    """

    def __init__(self, root: Path = TASKS, clock: Callable[[], float] = time.perf_counter) -> None:
        self._root = root
        self._clock = clock
        self._tasks: Sequence[int] = ()
        self._before: list[int] | None = None
        self._begun = 0.0
        self._waited = 0.0
        self._seconds = 0.0

    def start(self, tasks: Sequence[int]) -> None:
        """A stretch begins in which these threads run."""
        self._tasks = tasks
        self._before = self._read()
        self._begun = self._clock()

    def stop(self) -> None:
        """It ends."""
        seconds = self._clock() - self._begun
        after = self._read()
        if self._before is not None and after is not None:
            self._waited += 1e-9 * max(b - a for a, b in zip(self._before, after, strict=True))
            self._seconds += seconds

    @property
    def share(self) -> float | None:
        """Of the stretches' time; None if the machine does not tell."""
        return min(self._waited / self._seconds, 1.0) if self._seconds > 0.0 else None

    def _read(self) -> list[int] | None:
        """Nanoseconds each thread has waited so far: the second figure of its file."""
        try:
            return [int((self._root / str(task) / "schedstat").read_text().split()[1]) for task in self._tasks]
        except (OSError, ValueError, IndexError):
            return None
