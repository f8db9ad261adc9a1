"""Machines that map workloads operator by operator: a family knows the mappings of one."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from fettle.backends.api import Device, Schedule, Space, Value
from fettle.backends.host.machines import Machine
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload

Array = NDArray[Any]
H = TypeVar("H")
"""What a machine knows of a device: its hardware, as numbers."""


class Mappings(abc.ABC, Generic[H]):
    """Mappings of some operators onto devices of one kind. Stateless."""

    @abc.abstractmethod
    def unsupported(self, workload: Workload, hardware: H) -> str:
        """Why a workload of these operators cannot be mapped; empty if it can."""

    @abc.abstractmethod
    def space(self, workload: Workload, hardware: H) -> Space:
        """The mappings."""

    @abc.abstractmethod
    def textbook(self, workload: Workload, hardware: H, given: Mapping[str, Value]) -> dict[str, Value]:
        """What a textbook does where ``given`` does not say: a value for every parameter, before ``given`` applies."""

    def features(self, workload: Workload, hardware: H, schedule: Schedule) -> Mapping[str, float]:
        """Numbers a cost model learns cycles from, beyond the parameters and without simulating."""
        return {}

    def pack(self, workload: Workload, hardware: H, constants: Sequence[Operand]) -> tuple[Array, ...]:
        """Constants as a mapping computes with them; the same for all schedules."""
        return tuple(np.asarray(constant) for constant in constants)


class FamilyMachine(Machine, Generic[H]):
    """Asks the family of a workload's operator."""

    families: ClassVar[Mapping[str, Mappings[Any]]]
    """Operator -> its family."""

    @abc.abstractmethod
    def hardware(self, device: Device) -> H:
        """What a device stands for."""

    def unsupported(self, workload: Workload, device: Device) -> str:
        if workload.operator not in self.families:
            return f"the {device.backend} backend maps {' '.join(self.families)}"
        return self.families[workload.operator].unsupported(workload, self.hardware(device))

    def space(self, workload: Workload, device: Device) -> Space:
        return self.families[workload.operator].space(workload, self.hardware(device))

    def textbook(self, workload: Workload, device: Device, given: Mapping[str, Value]) -> dict[str, Value]:
        return self.families[workload.operator].textbook(workload, self.hardware(device), given)

    def features(self, workload: Workload, device: Device, schedule: Schedule) -> Mapping[str, float]:
        return self.families[workload.operator].features(workload, self.hardware(device), schedule)
