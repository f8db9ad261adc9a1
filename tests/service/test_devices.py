"""Devices that look-ups name by text, and how long they are remembered."""

from __future__ import annotations

import pytest

from fettle.backends.api import Backend, Device
from fettle.graph.errors import InvalidDevice
from fettle.service.devices import RecentDevices
from tests.service.paper import resolve_paper


class Machine:
    """Resolves paper devices, and counts how often it is asked."""

    def __init__(self) -> None:
        self.now = 100.0
        self.asked: list[str] = []

    def resolve(self, text: str) -> tuple[Backend, Device]:
        self.asked.append(text)
        return resolve_paper(text)


def test_a_device_is_looked_for_once_a_second() -> None:
    machine = Machine()
    devices = RecentDevices(machine.resolve, clock=lambda: machine.now)
    assert devices("paper") == devices("paper") == resolve_paper("paper")[1]
    assert devices("paper,threads=1").limit("threads") == 1
    assert machine.asked == ["paper", "paper,threads=1"]
    machine.now += 1.0
    devices("paper")
    assert machine.asked == ["paper", "paper,threads=1", "paper"]


def test_a_text_that_names_nothing_is_not_remembered() -> None:
    machine = Machine()
    devices = RecentDevices(machine.resolve, clock=lambda: machine.now)
    for _ in range(2):
        with pytest.raises(InvalidDevice):
            devices("gold")
    assert machine.asked == ["gold", "gold"]
