"""Extents of one convolution of codes: the geometry of its words, and what a word is."""

from __future__ import annotations

import math

import attrs

from fettle.backends.api import Device, Schedule
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.conv.geometry import Geometry
from fettle.backends.cpu.integers.words import OFFSET, WORD, dots_of
from fettle.graph.workload import Workload

_WORDS, _ROW, _FINISH = 11, 16, 12
"""Instructions that make a vector of words of rows of codes, begin and end a row, and finish a vector of sums."""


@attrs.frozen
class Plan:
    """A convolution of words, whose codes are four channels at one place, or four rows under one channel's filter.

    Attributes:
        grid: the convolution with words in place of numbers: ``c`` words for each position, and ``kh`` = 1 where
            words hold rows.
        channels: of x, in one group.
        filter_rows: of the weight.
        by_rows: a word holds the codes that four rows of the filter meet; groups of one channel have no others.
        act, out: formats of x and of the result.
        has_zero: the zero point of x is an operand.
        dot: how bytes are multiplied, see :mod:`fettle.backends.cpu.integers.dots`.
    """

    grid: Geometry
    channels: int
    filter_rows: int
    by_rows: bool
    act: str
    out: str
    has_zero: bool
    dot: str

    @classmethod
    def of(cls, workload: Workload, schedule: Schedule, device: Device) -> Plan:
        """Read workload and schedule; tiles are cut to the problem's size."""
        v = workload.values
        channels = v["c"] // v["group"]
        by_rows = channels == 1
        words = math.ceil((v["kh"] if by_rows else channels) / WORD)
        kh = 1 if by_rows else v["kh"]
        return cls(
            grid=Geometry.over(
                workload,
                schedule,
                device,
                c=words,
                kh=kh,
                micro_n=schedule["vectors"] * cpu.vector_bits(device) // 32,
                tile_c=words,
                in_place=False,
            ),
            channels=channels,
            filter_rows=v["kh"],
            by_rows=by_rows,
            act=v["act"].kind,
            out=v["out"].kind,
            has_zero=bool(v["zero"]),
            dot=dots_of(device),
        )

    @property
    def offset(self) -> int:
        """What is added to a code of x to make it unsigned."""
        return OFFSET[self.act]

    @property
    def is_flat(self) -> bool:
        """Rows of a band follow one another in its planes as they do in x: filters of one tap that neither move nor
        pad."""
        g = self.grid
        return not self.by_rows and (g.taps, *g.stride, g.top, g.left, g.rows, g.columns) == (1, 1, 1, 0, 0, g.h, g.w)

    @property
    def image_rows(self) -> int:
        """Rows of x, padding included, that a band of words of rows is made of."""
        g = self.grid
        return (g.tile_h - 1) * g.stride[0] + (self.filter_rows - 1) * g.dilation[0] + 1

    @property
    def image_columns(self) -> int:
        """Their columns, with those that whole vectors of words read beyond the last."""
        g = self.grid
        return (math.ceil(g.plane_columns / g.lanes) * g.lanes + 1) * g.stride[1] + g.column_phases

    @property
    def held(self) -> int:
        """Panels of output channels whose results are kept before they are written."""
        return self.grid.tile_oc if self.grid.weights_inside else 1

    @property
    def instructions(self) -> int:
        """Dot products, and what copies and finishes vectors, of the busiest thread."""
        g = self.grid
        vectors = g.busiest * g.micro_oc * g.groups * g.vectors
        planes = g.c * g.row_phases * g.column_phases
        rows, columns = (1, g.tile_h * g.columns) if self.is_flat else (g.plane_rows, g.plane_columns)
        copied = planes * rows * (_ROW + _WORDS * math.ceil(columns / g.lanes))
        loads = vectors // g.micro_oc
        return vectors * (g.c * g.taps + _FINISH) + loads * g.c * g.taps + g.share * copied
