"""A candidate's extents: how M, N and K are cut. Plain arithmetic.

Weights are packed as :mod:`fettle.backends.cpu.gemv.plan` says, so that one stored copy serves one row of x and
many. A *panel* is some blocks of a tile: the rows of W a thread works on at a time. A *band* is the rows of x that
share one pass over a panel; it is cut into equal *row blocks*, and the last band and block may hold rows past M,
which are copies of the last row and are not written. A *slab* is the part of a group of K whose weights are decoded
at a time (a whole group, unless that is long).

AMX takes up to 16 rows and 64 elements of K at once: a row block is ``tiles_down`` tiles of ``tile_rows`` rows, and
``tile_k`` elements, the most that divide every slab, are one of its steps.
"""

from __future__ import annotations

import math

import attrs

from fettle.backends.api import Schedule
from fettle.backends.cpu.amx.shapes import ROW_BYTES, tiles_down
from fettle.backends.cpu.gemv.plan import Plan
from fettle.backends.rounding import ceil_div
from fettle.graph.workload import Workload

LANES = 16
"""Rows of W in one vector of 32-bit sums."""

LARGEST_BAND = 128
"""Rows of x that share one pass: their sums of a panel of 64 fill most of a first-level cache."""

_LARGEST_SLAB = 512
"""K of a slab at most: 64 rows of W by 512 are 32 KB of codes."""

_LARGEST_FLOAT_SLAB = 128
"""The same of float32 weights."""

_ALGORITHMS = {"fields": "integer", "planes": "lut"}
"""Order of the packed codes -> the matrix-vector algorithm that reads it too."""


def packed_plan(workload: Workload, order: str, tile: int, interleave: int = 1) -> Plan:
    """How the weights are packed: ``fields`` or ``planes`` of AVX-512, in tiles of ``tile`` rows, the lines of so many
    blocks in turn."""
    schedule = Schedule.of(
        algorithm=_ALGORITHMS[order],
        isa="avx512",
        tile=tile,
        blocks=interleave,
        batch=1,
        unroll=1,
        prefetch=0,
        threads=1,
        preparation="private",
    )
    return Plan.of(workload, schedule)


def slab_steps(packed: Plan, is_float: bool) -> int:
    """Steps of the packed weights in a slab; the last slab of a group may have fewer."""
    largest = _LARGEST_FLOAT_SLAB if is_float else _LARGEST_SLAB
    return min(packed.steps, max(1, largest // packed.step_k))


def tile_k(packed: Plan) -> int:
    """Elements of K of one AMX product: the most that divide every slab."""
    full = slab_steps(packed, is_float=False)
    width = math.gcd(full, packed.steps % full) * packed.step_k
    return max(k for k in range(4, ROW_BYTES + 1, 4) if width % k == 0)


def balanced_rows(m: int, rows: int) -> int:
    """Rows of a block when each band of M is cut into as many equal blocks as blocks of at most ``rows`` need."""
    band = ceil_div(m, ceil_div(m, LARGEST_BAND))
    return ceil_div(band, ceil_div(band, rows))


@attrs.frozen
class GemmPlan:
    """One candidate of the family; see ``spaces`` for the schedule's parameters."""

    packed: Plan
    act: str
    out: str
    compute: str
    m: int
    algorithm: str
    order: str
    panel: int
    rows: int
    vectors: int
    unroll: int
    ahead: int
    zeros: str
    threads: int
    row_threads: int
    pages: str = "system"

    @classmethod
    def of(cls, workload: Workload, schedule: Schedule) -> GemmPlan:
        """The plan of a supported workload and a schedule of its space."""
        values = schedule.as_dict()
        packed = packed_plan(workload, str(values["order"]), int(values.pop("tile")), int(values.pop("interleave")))
        return cls(
            packed=packed,
            act=workload["act"].kind,
            out=workload["out"].kind,
            compute=workload["compute"].kind,
            m=workload["m"],
            **values,  # type: ignore[arg-type]
        )

    @property
    def is_float(self) -> bool:
        """Weights are dequantised to float32; otherwise activations are rounded to int8."""
        return self.compute != "i8"

    # -- M

    @property
    def bands(self) -> int:
        """As many for each thread along M."""
        return self.row_threads * ceil_div(ceil_div(self.m, self.row_threads), LARGEST_BAND)

    @property
    def column_threads(self) -> int:
        """Threads that share the panels of the same bands."""
        return self.threads // self.row_threads

    @property
    def row_blocks(self) -> int:
        """Row blocks of a band."""
        return ceil_div(ceil_div(self.m, self.bands), self.rows)

    @property
    def band(self) -> int:
        """Rows of a band, padding included."""
        return self.row_blocks * self.rows

    @property
    def padded_m(self) -> int:
        return self.bands * self.band

    # -- N

    @property
    def panel_blocks(self) -> int:
        return self.panel // LANES

    @property
    def panels(self) -> int:
        """Panels of a tile."""
        return self.packed.tile // self.panel

    # -- K

    @property
    def step_chunks(self) -> int:
        """Chunks (four k of one vector of rows of W, a 64-byte register) of a step of the packed weights."""
        return self.packed.step_k // 4

    @property
    def slab_steps(self) -> int:
        """Steps of a slab; the last slab of a group may have fewer."""
        return slab_steps(self.packed, self.is_float)

    @property
    def slabs(self) -> tuple[int, int]:
        """(full slabs of a group, steps of the slab after them or 0)."""
        return divmod(self.packed.steps, self.slab_steps)

    @property
    def is_split(self) -> bool:
        """Groups have several slabs, so integer sums are kept between them."""
        return self.packed.steps > self.slab_steps

    @property
    def line_stride(self) -> int:
        """Bytes between neighbouring lines of a block of the packed weights."""
        return self.packed.blocks * self.packed.line_bytes

    # -- AMX

    @property
    def is_amx(self) -> bool:
        return self.algorithm == "amx"

    @property
    def tiles_down(self) -> int:
        """Tiles of a row block."""
        return tiles_down(self.rows)

    @property
    def tile_rows(self) -> int:
        """Rows of x of a tile."""
        return self.rows // self.tiles_down

    @property
    def tile_k(self) -> int:
        """Elements of K of one product of tiles."""
        return tile_k(self.packed)

    # -- codes

    @property
    def is_staged(self) -> bool:
        """Codes are decoded into the first-level cache: more than one block of rows reads them, or tiles do."""
        return not self.is_plain and (self.row_blocks > 1 or self.is_amx)

    @property
    def is_centred(self) -> bool:
        """Decoding takes off the zero points: codes are signed, and sums need no correction."""
        return self.zeros == "codes"

    @property
    def is_plain(self) -> bool:
        """Packed codes are bytes already."""
        return self.order == "fields" and self.packed.field == 8

    @property
    def place(self) -> int:
        """Bit at which decoded codes begin. Bipolar codes are doubled, so that their zero point 1/2 is whole."""
        return 1 if self.packed.format.kind == "bip1" else 0

    @property
    def zero_point(self) -> int:
        """Constant zero point of the decoded codes; 1 where zero points are stored, as a factor of them."""
        fmt = self.packed.format
        return 1 if fmt.zero_points else int(fmt.zero_point * fmt.step)
