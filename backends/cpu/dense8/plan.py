"""Extents of one product of codes."""

from __future__ import annotations

import math

import attrs

from fettle.backends.api import Device, Schedule
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.integers.words import OFFSET, WORD, dots_of
from fettle.graph.epilogues import Epilogue
from fettle.graph.workload import Workload


@attrs.frozen
class Plan:
    """Shape of the product and of its tiles.

    A register tile is ``rows`` of x by a ``panel`` of columns; a task is ``tile`` panels and
    all rows. The last tile of rows ends where x does: it computes a second time what the one before does too.

    Attributes:
        act, out: formats of x and of the result.
        has_zero: the zero point of x is an operand.
        dot: how bytes are multiplied, see :mod:`fettle.backends.cpu.integers.dots`.
    """

    m: int
    n: int
    k: int
    rows: int
    panel: int
    tile: int
    threads: int
    lanes: int
    act: str
    out: str
    has_zero: bool
    epilogue: Epilogue | None
    dot: str

    @classmethod
    def of(cls, workload: Workload, schedule: Schedule, device: Device) -> Plan:
        """Read workload and schedule; tiles are cut to the problem's size."""
        v = workload.values
        plan = cls(
            **{name: v[name] for name in ("m", "n", "k", "epilogue")},
            rows=min(schedule["rows"], v["m"]),
            panel=schedule["columns"],
            tile=schedule["tile"],
            threads=schedule["threads"],
            lanes=cpu.vector_bits(device) // 32,
            act=v["act"].kind,
            out=v["out"].kind,
            has_zero=bool(v["zero"]),
            dot=dots_of(device),
        )
        return attrs.evolve(plan, tile=min(plan.tile, plan.panels))

    @property
    def offset(self) -> int:
        """What is added to a code of x to make it unsigned."""
        return OFFSET[self.act]

    @property
    def words(self) -> int:
        """Words of four codes in a row of x, the last filled with zeros."""
        return math.ceil(self.k / WORD)

    @property
    def vectors(self) -> int:
        """Vectors of columns of a panel."""
        return self.panel // self.lanes

    @property
    def panels(self) -> int:
        return math.ceil(self.n / self.panel)

    @property
    def tiles(self) -> int:
        """Tiles of panels: independent tasks."""
        return math.ceil(self.panels / self.tile)

    @property
    def row_tiles(self) -> int:
        return math.ceil(self.m / self.rows)

    @property
    def busiest(self) -> int:
        """Panels of the thread with the most of them."""
        return min(self.panels, math.ceil(self.tiles / self.threads) * self.tile)

    @property
    def instructions(self) -> int:
        """Dot products and loads of the busiest thread."""
        step = self.rows * self.vectors + self.rows + self.vectors
        return self.busiest * self.row_tiles * self.words * step
