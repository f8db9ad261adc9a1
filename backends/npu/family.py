"""What the backend asks of each kind of workload: mappings, and what is known of one."""

from __future__ import annotations

import abc
from collections.abc import Sequence

import attrs

from fettle.backends.api import Bound, Schedule, Simulation
from fettle.backends.host.families import Array, Mappings
from fettle.backends.npu.systolic.hardware import Systolic
from fettle.graph.workload import Workload

NAME = "npu"
"""The backend's, and the first word of its device texts."""

__all__ = ["NAME", "Array", "Call", "Family"]


@attrs.frozen(eq=False)
class Call:
    """What a kernel is called with: inputs, packed constants, and where the result goes."""

    inputs: Sequence[Array]
    packed: Sequence[Array]
    out: Array


class Family(Mappings[Systolic]):
    """Mappings of some operators onto the systolic device."""

    @abc.abstractmethod
    def simulate(
        self, workload: Workload, hardware: Systolic, schedule: Schedule, *, trace: bool = False
    ) -> Simulation:
        """Cycles, traffic and energy of a valid schedule."""

    @abc.abstractmethod
    def compute(self, workload: Workload, hardware: Systolic, schedule: Schedule, call: Call) -> None:
        """Execute the mapping on data."""

    @abc.abstractmethod
    def bound(self, workload: Workload, hardware: Systolic) -> Bound:
        """What no mapping can beat."""
