"""What bounds the schedules of a workload on a device: extents, registers, caches, threads."""

from __future__ import annotations

import math

import attrs

from fettle.backends.api import Device
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.dense.geometry import multiplies_pairs, multiplies_tiles
from fettle.graph.workload import Workload

_VECTOR_ROWS = (1, 2, 3, 4, 6, 8, 10, 12, 14, 16)
_VECTORS = (1, 2, 3, 4, 6, 8)
"""Rows of a register tile of vectors, and how wide it is."""

_REUSE = 64
"""Rows of a task that use a packed block often."""


@attrs.frozen
class Limits:
    """Of one workload on one device.

    Attributes:
        batch, m, n, k: extents of the product.
        lanes: f32 values of a vector register.
        threads: the most that a schedule may use.
        l1, l2: bytes of a core's caches.
        is_narrow: x is bfloat16.
        has_pairs, has_tiles: pairs, and tiles of pairs, of bfloat16 may be multiplied.
    """

    batch: int
    m: int
    n: int
    k: int
    lanes: int
    threads: int
    l1: int
    l2: int
    is_narrow: bool
    has_pairs: bool
    has_tiles: bool

    @classmethod
    def of(cls, workload: Workload, device: Device) -> Limits:
        """Read workload and device."""
        return cls(
            **{name: workload[name] for name in ("batch", "m", "n", "k")},
            lanes=cpu.vector_bits(device) // 32,
            threads=cpu.threads(device),
            l1=cpu.l1_bytes(device),
            l2=cpu.l2_bytes(device),
            is_narrow=workload["act"].kind != "f32",
            has_pairs=multiplies_pairs(workload, device),
            has_tiles=multiplies_tiles(workload, device),
        )

    @property
    def element_bytes(self) -> int:
        """Bytes of an element in a packed operand."""
        return 2 if self.has_pairs else 4

    def packed_bytes(self, width: int) -> int:
        """Bytes of a constant weight in panels of ``width`` columns."""
        return self.batch * self.k * math.ceil(self.n / width) * width * self.element_bytes

    @property
    def registers(self) -> int:
        """Vector registers of the instruction set."""
        return 32 if self.lanes == 16 else 16

    @property
    def x_registers(self) -> int:
        """Registers for an element of x: multiply-adds of AVX-512 read it from memory into all lanes."""
        return 0 if self.lanes == 16 else 1

    @property
    def widths(self) -> tuple[int, ...]:
        """Columns of a register tile: whole vectors."""
        return tuple(self.lanes * count for count in _VECTORS)

    @property
    def vector_rows(self) -> tuple[int, ...]:
        """Rows of a register tile of vectors; those of tiles are in :mod:`fettle.backends.cpu.amx.shapes`."""
        return tuple(rows for rows in _VECTOR_ROWS if rows <= self.m)

    @property
    def reusing_rows(self) -> int:
        """Rows of x from which it may pay that a task packs its own part of rhs."""
        return min(self.m, _REUSE)
