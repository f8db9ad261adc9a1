"""What a family makes of a workload and a schedule: a program to time, and the same commands to compute with."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence

import attrs
import numpy as np

from fettle.backends.api import Schedule
from fettle.backends.host.families import Array, Mappings
from fettle.backends.pim.device import Hardware
from fettle.backends.pim.program import Program
from fettle.graph.workload import Workload

HOST_ELEMENTS_PER_NS = 16.0
"""Elements of a softmax or another elementwise function that the host computes in a nanosecond: an assumption, a few
cores with vector units. The host's sums and products are taken to keep up with the memory, as in PIMSimulator's
benchmarks."""

__all__ = ["Array", "Family", "Mapped", "host_cycles"]


@attrs.frozen(eq=False)
class Mapped:
    """A workload under one schedule.

    Attributes:
        program: its commands.
        compute: (inputs of a call, packed constants) -> result as float32, by executing ``program`` on data.
        slack: refreshes that may be postponed.
    """

    program: Program
    compute: Callable[[Sequence[Array], Sequence[Array]], Array]
    slack: int = 0


class Family(Mappings[Hardware]):
    """Mappings of some operators onto memories with units."""

    @abc.abstractmethod
    def map(self, workload: Workload, hardware: Hardware, schedule: Schedule) -> Mapped:
        """Commands of a valid schedule."""


def host_cycles(elements: int, hardware: Hardware) -> int:
    """Cycles of the device's clock in which the host computes a function of so many elements."""
    return int(np.ceil(elements / HOST_ELEMENTS_PER_NS / hardware.organisation.clock_ns))
