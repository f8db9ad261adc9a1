"""Devices of this machine, found a moment ago."""

from __future__ import annotations

import time
from collections.abc import Callable

from fettle.backends.api import Device
from fettle.service.tuning import Resolve

_REMEMBERED = 1.0
"""Seconds. Reading what hardware is here takes longer than looking a kernel up."""

_MOST = 256
"""Texts kept; clients may ask for any."""


class RecentDevices:
    """Resolves device texts, each at most once a second. Safe to call from several threads.

    Args:
        resolve: finds the device of a text.
        clock: seconds, monotonic.
    """

    def __init__(self, resolve: Resolve, clock: Callable[[], float] = time.monotonic) -> None:
        self._resolve = resolve
        self._clock = clock
        self._found: dict[str, tuple[float, Device]] = {}

    def __call__(self, text: str) -> Device:
        """The device of a text. Raises what ``resolve`` does."""
        now = self._clock()
        since, device = self._found.get(text, (-float("inf"), None))
        if device is None or now - since >= _REMEMBERED:
            device = self._resolve(text)[1]
            if len(self._found) >= _MOST:
                self._found = {}
            self._found[text] = now, device
        return device
