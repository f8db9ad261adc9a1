"""The pim backend: memories with units at their banks, and look-up tables in SRAM."""

from __future__ import annotations

from typing import ClassVar

from fettle.backends.host.machines import Machine
from fettle.backends.host.models import ModelBackend
from fettle.backends.pim.device import NAME
from fettle.backends.pim.dram import DramMachine
from fettle.backends.pim.lut.machine import SramMachine


class PimBackend(ModelBackend):
    """Simulated memories that compute."""

    name: ClassVar[str] = NAME
    machines: ClassVar[tuple[Machine, ...]] = (DramMachine(), SramMachine())
