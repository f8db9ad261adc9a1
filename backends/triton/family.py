"""What a kernel family of the Triton backend is: a space of schedules, a plan of launches, a weight packer."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from fettle.backends.api import Schedule, Space, Support
from fettle.backends.triton.plan import Plan
from fettle.backends.triton.targets import Target
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload


class Family(abc.ABC):
    """One parameterised kernel family. Nothing here imports Triton: templates are named, not imported."""

    name: ClassVar[str]

    @abc.abstractmethod
    def supports(self, workload: Workload, target: Target) -> Support:
        """Yes, or no with the reason."""

    @abc.abstractmethod
    def space(self, workload: Workload, target: Target) -> Space:
        """Schedules for a supported workload that are legal before anything is compiled."""

    @abc.abstractmethod
    def default(self, workload: Workload, target: Target) -> Schedule:
        """A sensible untuned schedule, a point of the space."""

    @abc.abstractmethod
    def plan(self, workload: Workload, schedule: Schedule, target: Target) -> Plan:
        """The launches of a schedule."""

    def weight_layout(self, workload: Workload, schedule: Schedule) -> str:
        """Id of the packed layout of a schedule; schedules with equal ids share packed weights."""
        return ""

    def pack(self, workload: Workload, schedule: Schedule, constants: Sequence[Operand]) -> tuple[np.ndarray, ...]:
        """Lay the constants out as the plan's ``packed`` sources. Default: as they are."""
        return tuple(np.ascontiguousarray(c) for c in constants)
