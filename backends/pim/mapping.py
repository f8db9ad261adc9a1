"""What a family makes of a workload and a schedule: a program to time, and the same commands to compute with."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.backends.api import Schedule, Space, Value
from fettle.backends.pim.device import Hardware
from fettle.backends.pim.program import Program
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload

HOST_ELEMENTS_PER_NS = 16.0
"""Elements of a softmax or another elementwise function that the host computes in a nanosecond: an assumption, a few
cores with vector units. The host's multiply-adds are taken to keep up with the memory."""

Array = NDArray[Any]


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


class Family(abc.ABC):
    """Mappings of some operators onto devices of one kind. Stateless."""

    @abc.abstractmethod
    def unsupported(self, workload: Workload, hardware: Hardware) -> str:
        """Why a workload of the family's operators cannot be mapped; empty if it can."""

    @abc.abstractmethod
    def space(self, workload: Workload, hardware: Hardware) -> Space:
        """The mappings."""

    @abc.abstractmethod
    def textbook(self, workload: Workload, hardware: Hardware, given: Mapping[str, Value]) -> dict[str, Value]:
        """What a textbook does where ``given`` does not say: a value for every parameter, before ``given`` applies."""

    @abc.abstractmethod
    def map(self, workload: Workload, hardware: Hardware, schedule: Schedule) -> Mapped:
        """Commands of a valid schedule."""

    def features(self, workload: Workload, hardware: Hardware, schedule: Schedule) -> dict[str, float]:
        """Numbers a cost model learns cycles from, without emitting commands."""
        return {}

    def pack(self, workload: Workload, hardware: Hardware, constants: Sequence[Operand]) -> list[Array]:
        """Constants as :attr:`Mapped.compute` wants them; the same for all schedules."""
        return [np.asarray(constant) for constant in constants]


def ceil_div(a: int, b: int) -> int:
    """a / b, rounded up."""
    return -(-a // b)


def host_cycles(elements: int, hardware: Hardware) -> int:
    """Cycles of the device's clock in which the host computes a function of so many elements."""
    return int(np.ceil(elements / HOST_ELEMENTS_PER_NS / hardware.organisation.clock_ns))
