"""Builds, checks and runs kernels as production does, on the machine of this folder's conftest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np

from fettle.backends.api import Artifact, Candidate, Device, DeviceText, LoadedKernel, Schedule
from fettle.backends.cpu import CpuBackend, codegen
from fettle.backends.spaces import is_valid
from fettle.graph import data
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload
from tests.backends.cpu.errors import largest_error

BACKEND = CpuBackend()


def device(threads: int = 1) -> Device:
    """A device with AMX."""
    return BACKEND.device(DeviceText.parse(f"cpu,isa=amx,threads={threads}"))


def candidate(text: str, threads: int = 1, **changes: Any) -> Candidate:
    """The default schedule with values changed, which must be a point of the space."""
    workload, where = Workload.parse(text), device(threads)
    schedule = Schedule.of(**(BACKEND.default(workload, where).as_dict() | changes))
    assert is_valid(BACKEND.space(workload, where), schedule), schedule
    return Candidate(workload, where, schedule)


@attrs.frozen(eq=False)
class Built:
    """A loaded kernel."""

    workload: Workload
    artifact: Artifact
    kernel: LoadedKernel

    @classmethod
    def of(cls, candidate: Candidate) -> Built:
        artifact = BACKEND.build(candidate)
        return cls(candidate.workload, artifact, BACKEND.load(artifact))

    def __call__(self, operands: Sequence[Operand], packed: Sequence[np.ndarray] | None = None) -> np.ndarray:
        """Run; what the kernel does not write is NaN."""
        constant = [tensor.constant for tensor in self.workload.operands]
        inputs = [np.asarray(o) for o, c in zip(operands, constant, strict=True) if not c]
        out = np.full(self.workload.result.shape, np.nan, self.workload.result.format.dtype)
        self.kernel.run(
            inputs, packed or self.kernel.pack([o for o, c in zip(operands, constant, strict=True) if c]), out
        )
        return out

    def error(self, seed: int = 0) -> float:
        """On sampled operands: see :func:`largest_error`."""
        operands = data.operands(self.workload, seed)
        return largest_error(self.workload, operands, self(operands))


def blocks(candidate: Candidate, mnemonic: str) -> list[list[str]]:
    """The straight runs of instructions (no label, no jump within) that contain one."""
    family = BACKEND.family(candidate.workload, candidate.device)
    found: list[list[str]] = [[]]
    for line in codegen.assembly(family.lower(candidate), candidate.device).splitlines():
        if line.startswith(".LBB") or line.startswith("\tj"):
            found.append([])
        elif line.startswith("\t") and not line.startswith(("\t.", "\t#")):
            found[-1].append(line.strip())
    return [block for block in found if any(i.startswith(mnemonic) for i in block)]


def span(block: Sequence[str], first: str, last: str) -> list[str]:
    """From the first instruction that begins with ``first`` to the last that begins with ``last``."""
    start = next(n for n, i in enumerate(block) if i.startswith(first))
    end = max(n for n, i in enumerate(block) if i.startswith(last))
    return list(block[start : end + 1])


def count(block: Sequence[str], prefix: str) -> int:
    """Instructions that begin so."""
    return sum(instruction.startswith(prefix) for instruction in block)


def assert_products_load_once_and_spill_nothing(chosen: Candidate, mnemonic: str, down: int, vectors: int) -> None:
    """Register tiles of ``down`` by ``vectors``: as many loads a step as tiles come in, and addresses only besides, at
    most one instruction a load."""
    found = blocks(chosen, mnemonic)
    assert found
    for block in found:
        loop = span(block, "tileloadd", mnemonic)
        steps, rest = divmod(count(loop, mnemonic), down * vectors)
        assert steps
        assert not rest
        loads = count(loop, "tileloadd")
        assert loads == steps * (down + vectors)
        assert len(loop) <= count(loop, mnemonic) + 2 * loads
        assert not any(register in i for i in loop for register in ("%zmm", "%ymm", "%xmm"))
