"""From a schedule to something that runs: candidate, artifact, loaded kernel."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Protocol, runtime_checkable

import attrs
import numpy as np

from fettle.backends.api.devices import Device
from fettle.backends.api.spaces import Schedule
from fettle.backends.api.values import Pairs, sorted_pairs, strings
from fettle.graph import codec
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload


@attrs.frozen
class Candidate:
    """A schedule on its way to being measured."""

    workload: Workload
    device: Device
    schedule: Schedule

    @cached_property
    def key(self) -> str:
        """256-bit key in hexadecimal."""
        return codec.digest(("fettle.candidate", self.workload.key, self.device.key, self.schedule.values))


@attrs.frozen
class Artifact:
    """What building a candidate gives; everything needed to load it again on a machine with that device.

    Attributes:
        payload: the bytes of record: object file, cubin, compiled file, command program.
        kind: what the payload is (``elf-object``).
        abi: calling convention, checked at load (``tvm-ffi-1``).
        entry: symbol or entry name.
        workload, schedule: what it was built from (canonical text, and values).
        weight_layout: id of the packed layout its constants must have; empty if none.
        toolchain: what built it (``tvm-0.27.0.post1 llvm-22``).
        isa: instruction-set features it needs, sorted.
        facts: static facts of the program that features and tests use (instructions emitted, spills …).
    """

    payload: bytes = attrs.field(repr=False)
    kind: str
    abi: str
    entry: str
    workload: str
    schedule: Schedule
    weight_layout: str = ""
    toolchain: str = ""
    isa: tuple[str, ...] = attrs.field(default=(), converter=strings)
    facts: Pairs = attrs.field(default=(), converter=sorted_pairs)

    @property
    def sha256(self) -> str:
        """Content hash over the canonical encoding of all fields, in hexadecimal."""
        return hashlib.sha256(codec.dumps(self)).hexdigest()


class LoadedKernel(Protocol):
    """A loaded artifact. Constants are packed once; calls take the rest."""

    def pack(self, constants: Sequence[Operand]) -> tuple[np.ndarray, ...]:
        """Lay out the constant operands as the kernel wants them (see ``Artifact.weight_layout``)."""
        ...

    def run(self, inputs: Sequence[np.ndarray], packed: Sequence[np.ndarray], out: np.ndarray) -> None:
        """Compute into ``out``. Arrays are C-contiguous, of the workload's shapes, at any alignment."""
        ...


@runtime_checkable
class PreparableKernel(LoadedKernel, Protocol):
    """A loaded kernel that can make a call ready ahead of time. Optional: the others pay for their checks each time."""

    def prepare(
        self, inputs: Sequence[np.ndarray], packed: Sequence[np.ndarray], out: np.ndarray
    ) -> Callable[[], object]:
        """``run`` with these arrays, checked now and kept alive; what the function returns means nothing."""
        ...
