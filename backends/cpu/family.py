"""What a kernel family of the CPU backend is: a space of schedules, a lowering to TensorIR, a weight packer."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import attrs
import numpy as np

from fettle.backends.api import Candidate, Device, Schedule, Space, Support
from fettle.backends.spaces import why_invalid
from fettle.graph.errors import BuildFailure
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


class Spaces(Protocol):
    """What a family's module ``spaces`` has. Workloads are of the family's operators."""

    def supports(self, workload: Workload, device: Device) -> Support:
        """Yes, or no with the reason."""

    def space(self, workload: Workload, device: Device) -> Space:
        """Schedules for a supported workload; the algorithm is a parameter like any other."""

    def default(self, workload: Workload, device: Device) -> Schedule:
        """A sensible untuned schedule, a point of the space."""


class Family(abc.ABC):
    """One parameterised kernel family. Only :meth:`lower` may import TVM.

    Attributes:
        name: of the folder; stored with every artifact.
        operators: whose workloads it may be asked about.
        spaces: its module ``spaces``.
    """

    name: ClassVar[str]
    operators: ClassVar[tuple[str, ...]]
    spaces: ClassVar[Spaces]

    def supports(self, workload: Workload, device: Device) -> Support:
        """See :class:`Spaces`."""
        return self.spaces.supports(workload, device)

    def space(self, workload: Workload, device: Device) -> Space:
        """See :class:`Spaces`."""
        return self.spaces.space(workload, device)

    def default(self, workload: Workload, device: Device) -> Schedule:
        """See :class:`Spaces`."""
        return self.spaces.default(workload, device)

    @abc.abstractmethod
    def lower(self, candidate: Candidate) -> Lowered:
        """TensorIR of a candidate. Raises BuildFailure."""

    def check(self, candidate: Candidate) -> None:
        """Raise BuildFailure if a candidate's schedule is no point of its space."""
        why = why_invalid(self.space(candidate.workload, candidate.device), candidate.schedule)
        if why is not None:
            raise BuildFailure(f"not a schedule of {candidate.workload}: {why}")

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
