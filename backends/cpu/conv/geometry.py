"""Extents of one convolution kernel, in elements."""

from __future__ import annotations

import math
from typing import Any, Self

import attrs

from fettle.backends.api import Device, Schedule
from fettle.backends.cpu import device as cpu
from fettle.graph.epilogues import Epilogue
from fettle.graph.workload import Workload

UNROLLED_TAPS = 9
"""Filters up to this size are unrolled whole, larger ones a row at a time, wider ones not at all."""

_ROW = 16
"""Instructions beside loads and stores of whole vectors that copying a row takes: its edges, its last elements."""

_CONTESTED = 700
"""Instructions in the time that two threads take longer to write to one line of y."""


@attrs.frozen
class Geometry:
    """Shape of the convolution and of its tiles.

    Groups of channels are images of their own: ``n`` counts both, group by group of each image, and ``c`` and ``oc``
    are the channels of one group. Pairs are (along the height, along the width).

    A task copies the input rows that ``tile_h`` output rows need into planes of ``plane_rows × plane_columns``,
    padding included, one plane for each channel and each remainder (row, column) modulo the stride. In such a
    plane the input of output element (i, j) for tap (r, s) lies ``row_shift(r) + column_shift(s)`` after element
    i·plane_columns + j: all output rows of a band are one run of vectors, with a few unused elements between rows.
    """

    n: int
    c: int
    h: int
    w: int
    oc: int
    kh: int
    kw: int
    group: int
    stride: tuple[int, int]
    top: int
    left: int
    dilation: tuple[int, int]
    rows: int
    columns: int
    lanes: int
    micro_oc: int
    micro_n: int
    tile_h: int
    tile_oc: int
    tile_c: int
    threads: int
    weights_inside: bool
    in_place: bool
    epilogue: Epilogue | None

    @classmethod
    def of(cls, workload: Workload, schedule: Schedule, device: Device) -> Self:
        """Read workload and schedule; tiles are cut to the problem's size."""
        c = workload["c"] // workload["group"]
        return cls.over(
            workload,
            schedule,
            device,
            c=c,
            kh=workload["kh"],
            micro_n=schedule["micro_n"],
            tile_c=min(schedule["tile_c"], c),
            in_place=schedule["input"] == "in_place",
        )

    @classmethod
    def over(cls, workload: Workload, schedule: Schedule, device: Device, *, c: int, kh: int, **given: Any) -> Self:
        """As :meth:`of`, over ``c`` channels and ``kh`` rows of the filter, which may be words of several.

        Args:
            given: ``micro_n``, ``tile_c`` and ``in_place``.
        """
        v = workload.values
        rows, columns = workload.result.shape[2:]
        oc = v["oc"] // v["group"]
        return cls(
            **{name: v[name] for name in ("h", "w", "kw", "group", "stride", "dilation", "epilogue")},
            n=v["n"] * v["group"],
            c=c,
            oc=oc,
            kh=kh,
            top=v["pad"][0],
            left=v["pad"][1],
            rows=rows,
            columns=columns,
            lanes=cpu.vector_bits(device) // 32,
            micro_oc=schedule["micro_oc"],
            tile_h=min(schedule["tile_h"], rows),
            tile_oc=min(schedule["tile_oc"], math.ceil(oc / schedule["micro_oc"])),
            threads=schedule["threads"],
            weights_inside=schedule["inner"] == "weights",
            **given,
        )

    @property
    def taps(self) -> int:
        return self.kh * self.kw

    @property
    def panels(self) -> int:
        """Panels of ``micro_oc`` output channels of a group, the last padded with zeros."""
        return math.ceil(self.oc / self.micro_oc)

    @property
    def oc_tiles(self) -> int:
        return math.ceil(self.panels / self.tile_oc)

    @property
    def bands(self) -> int:
        return math.ceil(self.rows / self.tile_h)

    @property
    def c_blocks(self) -> int:
        return math.ceil(self.c / self.tile_c)

    @property
    def tasks(self) -> int:
        """Independent pieces of work."""
        return self.n * self.oc_tiles * self.bands

    @property
    def row_phases(self) -> int:
        """Remainders of input rows modulo the stride that taps touch."""
        return _phases(self.stride[0], self.dilation[0], self.kh)

    @property
    def column_phases(self) -> int:
        return _phases(self.stride[1], self.dilation[1], self.kw)

    @property
    def plane_rows(self) -> int:
        return self.tile_h + (self.kh - 1) * self.dilation[0] // self.stride[0]

    @property
    def plane_columns(self) -> int:
        return self.columns + (self.kw - 1) * self.dilation[1] // self.stride[1]

    @property
    def plane(self) -> int:
        return self.plane_rows * self.plane_columns

    @property
    def channel(self) -> int:
        """All planes of one channel."""
        return self.row_phases * self.column_phases * self.plane

    def row_shift(self, r: Any) -> Any:
        """The part of ``shift`` that is a tap's row's; rows and columns may be numbers or expressions."""
        phase, row = r * self.dilation[0] % self.stride[0], r * self.dilation[0] // self.stride[0]
        return phase * self.column_phases * self.plane + row * self.plane_columns

    def column_shift(self, s: Any) -> Any:
        """The part of ``shift`` that is a tap's column's."""
        return s * self.dilation[1] % self.stride[1] * self.plane + s * self.dilation[1] // self.stride[1]

    @property
    def run(self) -> int:
        """From the first output element of a band to its last, unused ones between included."""
        return (self.tile_h - 1) * self.plane_columns + self.columns

    @property
    def vectors(self) -> int:
        """Vectors of output elements in a register tile."""
        return self.micro_n // self.lanes

    @property
    def finishing(self) -> int:
        """Instructions beside the epilogue that bring a vector of sums to y: a store and a load of the task's sums."""
        return 1 if self.in_place else 3

    @property
    def groups(self) -> int:
        """Register tiles along a run."""
        return math.ceil(self.run / self.micro_n)

    @property
    def input_size(self) -> int:
        """Elements of a task's copied input; the last register tile reads beyond the planes."""
        return self.tile_c * self.channel + self.groups * self.micro_n

    @property
    def output_size(self) -> int:
        """Elements of a task's sums."""
        return self.tile_oc * self.micro_oc * self.groups * self.micro_n

    @property
    def share(self) -> int:
        """Tasks of a thread; the last may have fewer."""
        return math.ceil(self.tasks / self.threads)

    @property
    def busiest(self) -> int:
        """Panels of output channels, each over a whole run, that the thread with the most of them computes."""
        starts = range(0, self.tasks, self.share)
        ends = (min(start + self.share, self.tasks) for start in starts)
        return max(
            self._panels_before(end) - self._panels_before(start) for start, end in zip(starts, ends, strict=True)
        )

    def _panels_before(self, task: int) -> int:
        """Panels that the tasks before this one compute."""
        whole, rest = divmod(task, self.oc_tiles)
        return whole * self.panels + rest * self.tile_oc

    @property
    def efficiency(self) -> float:
        """Useful multiply-adds among those computed, idle threads counted in."""
        computed = self.busiest * self.threads * self.micro_oc * self.groups * self.micro_n
        return self.n * self.rows * self.columns * self.oc / computed

    @property
    def contested(self) -> int:
        """Lines of y that two threads write at the same time: one of each channel where both have one band."""
        return self.oc if self.threads > 1 and self.bands > 1 and self.share <= self.oc_tiles else 0

    @property
    def instructions(self) -> int:
        """Multiply-adds of vectors, loads and stores of sums and copies, of the busiest thread, and what it waits."""
        results = self.busiest * self.groups * (self.micro_oc * self.micro_n // self.lanes)
        computed = results * (self.c * self.taps + self.finishing) + self.contested * _CONTESTED
        if self.in_place:
            return computed
        rows = self.row_phases * self.column_phases * self.plane_rows
        copied = self.c * rows * (_ROW + 2 * math.ceil(self.plane_columns / self.lanes))
        return computed + self.share * copied


def unrolled_columns(kw: int) -> int:
    """Taps of a row of the filter that a kernel computes at once."""
    return kw if kw <= UNROLLED_TAPS else 1


def _phases(stride: int, dilation: int, taps: int) -> int:
    return stride if dilation > 1 and taps > 1 else min(stride, taps)


def band_heights(rows: int) -> tuple[int, ...]:
    """Output rows of a task that are worth trying: those of few bands, and one."""
    counts = [n for n in (1, 2, 3, 4, 6, 8, 12, 14, 16, 24, 28, 32, 56, 64, 112, 128) if n < rows]
    return tuple(sorted({math.ceil(rows / bands) for bands in (*counts, rows)}))
