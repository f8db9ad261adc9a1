"""What the backend asks of each kind of workload: mappings, and what is known of one."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from fettle.backends.api import Bound, Schedule, Simulation, Space, Value
from fettle.backends.npu.systolic.hardware import Systolic
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload

NAME = "npu"
"""The backend's, and the first word of its device texts."""

Array = NDArray[Any]


class Family(abc.ABC):
    """Mappings of one operator onto the systolic device. Stateless."""

    @abc.abstractmethod
    def unsupported(self, workload: Workload, hardware: Systolic) -> str:
        """Why a workload cannot be mapped; empty if it can."""

    @abc.abstractmethod
    def space(self, workload: Workload, hardware: Systolic) -> Space:
        """The mappings."""

    @abc.abstractmethod
    def textbook(self, workload: Workload, hardware: Systolic, given: Mapping[str, Value]) -> dict[str, Value]:
        """What a textbook does where ``given`` does not say: a value for every parameter, before ``given`` applies."""

    @abc.abstractmethod
    def simulate(
        self, workload: Workload, hardware: Systolic, schedule: Schedule, *, trace: bool = False
    ) -> Simulation:
        """Cycles, traffic and energy of a valid schedule."""

    @abc.abstractmethod
    def compute(
        self,
        workload: Workload,
        hardware: Systolic,
        schedule: Schedule,
        inputs: Sequence[Array],
        packed: Sequence[Array],
        out: Array,
    ) -> None:
        """Execute the mapping on data."""

    @abc.abstractmethod
    def bound(self, workload: Workload, hardware: Systolic) -> Bound:
        """What no mapping can beat."""

    def pack(self, workload: Workload, constants: Sequence[Operand]) -> tuple[Array, ...]:
        """Constants as :meth:`compute` takes them, the same for all schedules."""
        return ()

    def features(self, workload: Workload, hardware: Systolic, schedule: Schedule) -> Mapping[str, float]:
        """Numbers for the cost model, beyond the parameters."""
        return {}
