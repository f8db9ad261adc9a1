"""A mapping as a kernel: the executor checks its result before it asks for its cycles."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np

from fettle.backends.pim.device import Hardware
from fettle.backends.pim.mapping import Family, Mapped
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload

KIND = "pim-program"
ABI = "pim-trace-1"


@attrs.frozen(eq=False)
class PimKernel:
    """A loaded mapping; computes by executing its commands on data."""

    workload: Workload
    hardware: Hardware
    family: Family
    mapped: Mapped

    def pack(self, constants: Sequence[Operand]) -> tuple[np.ndarray, ...]:
        """Constants as float32, in the order banks hold them."""
        return tuple(self.family.pack(self.workload, constants))

    def run(self, inputs: Sequence[np.ndarray], packed: Sequence[np.ndarray], out: np.ndarray) -> None:
        """Execute the commands."""
        result = self.mapped.compute(inputs, packed)
        out[...] = result.reshape(out.shape).astype(out.dtype)
