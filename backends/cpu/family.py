"""What a kernel family of the CPU backend is: a space of schedules, a lowering to TensorIR, a weight packer."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import attrs
import numpy as np

from fettle.backends.api import Candidate, Device, Schedule, Space, Support
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload


@attrs.frozen(eq=False)
class Lowered:
    """A candidate as TensorIR.

    Attributes:
        function: a ``tirx.PrimFunc``. Its parameters are, in this order: the workload's non-constant operands,
            the packed constants (as the family's ``pack`` returns them), the result. All are
            ``T.Buffer(..., align=itemsize)`` so that callers may pass arrays of any alignment.
        isa: CPU features the emitted code needs beyond the target's baseline, e.g. ``avx512vbmi``.
        weight_layout: id of the packed layout, e.g. ``lut-r16-p4-f16:1``; empty when nothing is packed.
    """

    function: Any
    isa: tuple[str, ...] = ()
    weight_layout: str = ""


class Family(abc.ABC):
    """One parameterised kernel family. Only :meth:`lower` may import TVM."""

    name: ClassVar[str]

    @abc.abstractmethod
    def supports(self, workload: Workload, device: Device) -> Support:
        """Yes, or no with the reason."""

    @abc.abstractmethod
    def space(self, workload: Workload, device: Device) -> Space:
        """Schedules for a supported workload; the algorithm is a parameter like any other."""

    @abc.abstractmethod
    def default(self, workload: Workload, device: Device) -> Schedule:
        """A sensible untuned schedule, a point of the space."""

    @abc.abstractmethod
    def lower(self, candidate: Candidate) -> Lowered:
        """TensorIR of a candidate. Raises BuildFailure."""

    def weight_layout(self, workload: Workload, schedule: Schedule) -> str:
        """Id of the packed layout of a schedule; schedules with equal ids share packed weights."""
        return ""

    def pack(self, workload: Workload, schedule: Schedule, constants: Sequence[Operand]) -> tuple[np.ndarray, ...]:
        """Lay the constants out for the kernel (needs neither TVM nor a compiler). Default: as they are."""
        return tuple(np.ascontiguousarray(c) for c in constants)

    def features(self, candidate: Candidate) -> Mapping[str, float]:
        """Cost-model features of the schedule: numbers only, physically meaningful, logarithms where they scale."""
        return {}

    def estimate(self, candidate: Candidate) -> float | None:
        """See :meth:`fettle.backends.api.Backend.estimate`."""
        return None
