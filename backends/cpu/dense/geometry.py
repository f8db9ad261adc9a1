"""Extents of one dense kernel, read from workload, schedule and device."""

from __future__ import annotations

import math
from typing import Any

import attrs

from fettle.backends.api import Device, Schedule
from fettle.backends.cpu import device as cpu
from fettle.graph.epilogues import Epilogue
from fettle.graph.workload import Workload

TILE_DEPTH = 16
"""Pairs along k of a tile: rows of W, words of a row of x. Zeros fill the last."""


def multiplies_pairs(workload: Workload, device: Device) -> bool:
    """Products of bfloat16 pairs by one instruction (AVX512-BF16), where the workload allows their rounding."""
    values = workload.values
    right = values["rhs"] or values["weight"]
    narrow = values["act"].kind == right.kind == "bf16" and values["compute"].kind == "bf16"
    return narrow and {"avx512f", "avx512bf16"} <= cpu.features(device)


def multiplies_tiles(workload: Workload, device: Device) -> bool:
    """Products of tiles of bfloat16 pairs (AMX-BF16), which round as those of pairs may; but not to the same bits, so
    that batch-invariant products are never theirs: a single row has pairs."""
    is_free = not workload["invariant"]
    return is_free and multiplies_pairs(workload, device) and {"amx-tile", "amx-bf16"} <= cpu.features(device)


def pairs_of(schedule: Schedule) -> int:
    """Elements of k that one multiplication of a schedule takes."""
    return 1 if schedule.get("multiply", "single") == "single" else 2


def depth_of(schedule: Schedule) -> int:
    """Multiplications along k that packed operands have a multiple of."""
    return TILE_DEPTH if schedule.get("multiply", "single") == "tiles" else 1


@attrs.frozen
class Geometry:
    """All in elements unless a name says otherwise.

    Attributes:
        pairs: elements of k one multiplication takes: 2 where bfloat16 pairs are multiplied, else 1.
        depth: multiplications along k are padded to a multiple of it: 16 in products of tiles, else 1.
        tile_k: elements of k between reads and writes of partial sums, a multiple of ``pairs`` or all of k.
        act, right, out: formats of x, of the right-hand side and of y.
        rhs: ``constant``, ``packed`` first, packed in ``blocks`` by each task, or read ``direct``.
    """

    batch: int
    m: int
    n: int
    k: int
    micro_m: int
    micro_n: int
    lanes: int
    tile_m: int
    tile_n: int
    tile_k: int
    unroll_k: int
    threads: int
    prefetch: int
    rows_outside: bool
    rows_inside: bool
    copies_x: bool
    rhs: str
    pairs: int
    depth: int
    act: str
    right: str
    out: str
    epilogue: Epilogue | None

    @classmethod
    def of(cls, workload: Workload, schedule: Schedule, device: Device) -> Geometry:
        """Read workload and schedule; tiles are cut to the problem's size."""
        values = workload.values
        micro_m, micro_n = schedule["micro_m"], schedule["micro_n"]
        return cls(
            batch=values["batch"],
            m=values["m"],
            n=values["n"],
            k=values["k"],
            micro_m=micro_m,
            micro_n=micro_n,
            lanes=cpu.vector_bits(device) // 32,
            tile_m=min(schedule["tile_m"], math.ceil(values["m"] / micro_m)),
            tile_n=min(schedule["tile_n"], math.ceil(values["n"] / micro_n)),
            tile_k=min(schedule["tile_k"], values["k"]),
            unroll_k=schedule["unroll_k"],
            threads=schedule["threads"],
            prefetch=schedule["prefetch"],
            rows_outside=schedule["order"] == "rows",
            rows_inside=schedule["inner"] == "rows",
            copies_x=schedule["copy_x"],
            rhs=schedule.get("rhs", "constant"),
            pairs=pairs_of(schedule),
            depth=depth_of(schedule),
            act=values["act"].kind,
            right=(values["rhs"] or values["weight"]).kind,
            out=values["out"].kind,
            epilogue=values["epilogue"],
        )

    def at(self, b: Any, *indices: Any) -> tuple[Any, ...]:
        """Index into x, y or an unpacked rhs, which have a batch dimension only if there is a batch."""
        return indices if self.batch == 1 else (b, *indices)

    @property
    def micro_rows(self) -> int:
        """Micro rows, the last possibly short."""
        return math.ceil(self.m / self.micro_m)

    @property
    def panels(self) -> int:
        """Panels of W, the last possibly padded."""
        return math.ceil(self.n / self.micro_n)

    @property
    def steps(self) -> int:
        """Multiplications along k, padding included."""
        return math.ceil(self.k / self.pairs / self.depth) * self.depth

    @property
    def block(self) -> int:
        """Multiplications along one block of k."""
        return math.ceil(self.tile_k / self.pairs / self.depth) * self.depth

    @property
    def whole_panels(self) -> tuple[int, int]:
        """(panels that are written as a whole, columns of the last one that exist or 0). Where rhs is read in place
        there is nothing behind its last column: the last panel ends there, and begins in the one before."""
        return (self.panels, 0) if self.rhs == "direct" else divmod(self.n, self.micro_n)

    @property
    def m_tiles(self) -> int:
        return math.ceil(self.micro_rows / self.tile_m)

    @property
    def n_tiles(self) -> int:
        return math.ceil(self.panels / self.tile_n)

    @property
    def k_blocks(self) -> int:
        return math.ceil(self.steps / self.block)

    @property
    def tasks(self) -> int:
        """Independent pieces of work."""
        return self.batch * self.m_tiles * self.n_tiles

    @property
    def has_tiles(self) -> bool:
        """Tiles are multiplied, not vectors."""
        return self.depth > 1

    @property
    def copied(self) -> str:
        """Type of what a kernel copies of its operands, pairs as bits. Of tiles it is that of their sums: TVM may give
        buffers that are used one after the other the same memory, but only those of one type may have pointers."""
        return "int32" if self.pairs == 2 and not self.has_tiles else "float32"

    @property
    def vectors(self) -> int:
        """Vector registers in a row of the register tile."""
        return self.micro_n // self.lanes
