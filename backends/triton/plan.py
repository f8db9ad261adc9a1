"""A candidate as launches of Triton kernels: plain data that the compiler, the interpreter and the loader share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs
import numpy as np

from fettle.backends.api import Value
from fettle.backends.host.operands import dtype_named

TYPES = {
    "fp16": "float16",
    "bf16": "bfloat16",
    "fp32": "float32",
    "i8": "int8",
    "i16": "int16",
    "i32": "int32",
    "u8": "uint8",
    "u16": "uint16",
    "u32": "uint32",
    "fp8e4nv": "float8_e4m3fn",
    "fp8e5": "float8_e5m2",
}
"""Triton's scalar types, and NumPy's (or ml_dtypes') names for them."""

ELEMENT = {
    "f16": "fp16",
    "bf16": "bf16",
    "f32": "fp32",
    "f8e4m3": "fp8e4nv",
    "f8e5m2": "fp8e5",
    "i8": "i8",
    "u8": "u8",
    "i32": "i32",
}
"""Formats of :mod:`fettle.graph.formats` as Triton's scalar types."""


@attrs.frozen
class Argument:
    """One argument of a kernel that is given at launch.

    Attributes:
        parameter: its name in the kernel.
        type: Triton's type: ``*fp16``, ``i32``.
        source: where a pointer points: ``input:0`` (an operand given at every call), ``packed:1`` (a packed
            constant), ``scratch:NAME``, ``out``; empty for a number.
        value: the number.
    """

    parameter: str
    type: str
    source: str = ""
    value: int = 0


@attrs.frozen
class Work:
    """What one launch does, for predictions.

    Attributes:
        bytes: traffic with device memory that cannot be avoided.
        flops: multiply-adds of tensor units count two, padding of tiles included.
        unit: which peak bounds them: ``half``, ``fp8``, ``int8``; empty for none.
        trips: iterations of the main loop of one program.
        gathered: bytes that the last program of each tile reads of what others left for it.
        flying: whether products of one pass go on while the next one begins.
        left_shared: share of the products whose left operand is read from shared memory, not from registers.
        exponentials: of one pass of one program.
    """

    bytes: float
    flops: float = 0.0
    unit: str = ""
    trips: float = 1.0
    gathered: float = 0.0
    flying: bool = False
    left_shared: float = 0.0
    exponentials: float = 0.0


@attrs.frozen
class Launch:
    """One launch of one kernel.

    Attributes:
        template: ``module:function`` under :mod:`fettle.backends.triton.templates`.
        arguments: in the kernel's order.
        constants: values of its ``tl.constexpr`` parameters, in any order.
        grid: programs along x, y, z.
        warps: warps of a program.
        stages: depth of the software pipeline.
        registers: most that a thread may have, so that more programs fit beside each other; 0 for as many as the
            assembler likes.
        dependent: it may begin while the launch before it ends; its kernel waits for that one itself.
    """

    template: str
    arguments: tuple[Argument, ...]
    constants: tuple[tuple[str, Value], ...]
    grid: tuple[int, int, int]
    work: Work
    warps: int = 4
    stages: int = 3
    registers: int = 0
    dependent: bool = False

    @property
    def programs(self) -> int:
        return math.prod(self.grid)


@attrs.frozen
class Scratch:
    """Device memory a plan needs besides its operands.

    Attributes:
        type: one of :data:`TYPES`, of each of the ``elements``.
        zeroed: it must be zero before every call (sums are added into it).
        kept: it must be zero before the first call; every call leaves it so.
    """

    name: str
    type: str
    elements: int
    zeroed: bool = False
    kept: bool = False

    @property
    def dtype(self) -> np.dtype[np.generic]:
        return dtype_named(TYPES[self.type])

    @property
    def nbytes(self) -> int:
        return self.elements * self.dtype.itemsize


@attrs.frozen
class Plan:
    """All launches of a candidate, in order. Equal plans are equal programs."""

    launches: tuple[Launch, ...]
    scratch: tuple[Scratch, ...] = ()
    weight_layout: str = ""


def main_launch(launches: Sequence[Launch]) -> Launch:
    """The one with the most work, which the others prepare or finish."""
    return max(launches, key=lambda launch: launch.work.bytes + launch.work.flops)
