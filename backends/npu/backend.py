"""The npu backend: a systolic array that is simulated, and Arm's compiler that is asked."""

from __future__ import annotations

from typing import ClassVar

from fettle.backends.host.machines import Machine
from fettle.backends.host.models import ModelBackend
from fettle.backends.npu.ethos.machine import EthosMachine
from fettle.backends.npu.family import NAME
from fettle.backends.npu.systolic.machine import SystolicMachine


class NpuBackend(ModelBackend):
    """NPUs that are not there."""

    name: ClassVar[str] = NAME
    machines: ClassVar[tuple[Machine, ...]] = (SystolicMachine(), EthosMachine())
