"""Lets builds run together and measurements alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fettle.graph.errors import Cancelled


class Exclusion:
    """A lock held by many builds or by one measurement. A waiting measurement goes before builds not yet begun.

    After :meth:`close`, everybody who waits or comes later gets Cancelled.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._building = 0
        self._measuring = False
        self._waiting = 0
        self._closed = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Hold together with other builds."""
        with self._changed:
            self._wait_until(lambda: not self._measuring and not self._waiting)
            self._building += 1
        try:
            yield
        finally:
            with self._changed:
                self._building -= 1
                self._changed.notify_all()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold alone."""
        with self._changed:
            self._waiting += 1
            try:
                self._wait_until(lambda: not self._measuring and not self._building)
                self._measuring = True
            finally:
                self._waiting -= 1
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._measuring = False
                self._changed.notify_all()

    def close(self) -> None:
        """Wake everybody who waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _wait_until(self, free: Callable[[], bool]) -> None:
        self._changed.wait_for(lambda: self._closed or free())
        if self._closed:
            raise Cancelled("the executor was closed")
