"""A loaded program, run by Triton's interpreter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fettle.backends.api import Schedule
from fettle.backends.triton.family import Family
from fettle.backends.triton.plan import Scratch
from fettle.backends.triton.program import Program
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload

_POISON = 0xFF


class InterpretedKernel:
    """A plan on this machine's CPU. See :class:`fettle.backends.api.LoadedKernel`."""

    def __init__(self, program: Program, family: Family, workload: Workload, schedule: Schedule) -> None:
        self._program = program
        self._family = family
        self._workload = workload
        self._schedule = schedule

    def pack(self, constants: Sequence[Operand]) -> tuple[np.ndarray, ...]:
        return self._family.pack(self._workload, self._schedule, constants)

    def run(self, inputs: Sequence[np.ndarray], packed: Sequence[np.ndarray], out: np.ndarray) -> None:
        from fettle.backends.triton.interpreter.run import launch

        arrays = {f"input:{i}": array for i, array in enumerate(inputs)}
        arrays |= {f"packed:{i}": array for i, array in enumerate(packed)}
        arrays |= {f"scratch:{one.name}": _memory(one) for one in self._program.scratch}
        arrays["out"] = out
        for kernel in self._program.kernels:
            launch(kernel.launch, arrays)


def _memory(scratch: Scratch) -> np.ndarray:
    """Zeros where a plan asks for them, else what memory holds that nobody wrote: poison."""
    filling = 0 if scratch.zeroed or scratch.kept else _POISON
    return np.full(scratch.nbytes, filling, np.uint8).view(scratch.dtype)
