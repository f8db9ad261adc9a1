"""A candidate's extents: how N and K are cut into tiles, groups, blocks, steps and lines. Plain arithmetic.

The packed weights are ``[tile][group][superblock][step][plane][block][line]`` bytes, half tables of several planes
``[plane][step]`` in the place of ``[step][plane]``. A *line* holds the same few k of ``block_rows`` rows; a *step* is
the k of one line (of all its planes); a *block* is the rows of a line over one group; a *superblock* is the ``blocks``
blocks in flight together. Their lines alternate, so that the kernel reads one ascending stream: prefetchers follow
several streams less well (on a Zen 4, 60 GB/s from L3 in place of 85). Rows are padded to whole tiles, each group to
whole steps; padded activations are zero, so padding never changes a result.
"""

from __future__ import annotations

import math

import attrs

from fettle.backends.api import Schedule
from fettle.backends.rounding import ceil_div
from fettle.graph.formats import PER_ROW, Format
from fettle.graph.prepared import PreparedFormat
from fettle.graph.workload import Workload

LARGEST_GROUP = 65536
"""K of a group at most: 255 · 127 · 65536 stays below 2^31, so int32 sums are exact."""

LARGEST_TABLES = 257
"""Half tables of a group at most: so many bytes add up in 16 bits."""

TRIPLETS = 8
"""Triplets of ternary digits of a step: four lines of two indices a byte follow a line of eight signs a byte."""

_ENOUGH_SUMS = 4
"""Independent sums that hide the latency of a dot product; fewer are halved, and added up at a group's end."""

_ROUND_GROUP = 16
"""Groups are padded to whole vectors of 16 activations."""

VECTOR_BYTES = {"avx512": 64, "avx512bw": 64, "avx2": 32, "avxvnni": 32, "portable": 16}
"""Bytes of the vector register each instruction set variant computes with."""


def field_bits(bits: int) -> int:
    """Bits of the in-byte field that holds a code of ``bits`` bits: the next divisor of 8."""
    return next(width for width in (1, 2, 4, 8) if bits <= width)


@attrs.frozen
class Plan:
    """One candidate of the family: workload, schedule (see ``spaces``), and whether there are instructions for float16
    and for bit matrices (GFNI).

    ``prepared`` says what x is where ``quantize`` has prepared it: ``i8`` codes or ``lut4`` tables; else empty.

    A binary-coded weight is ``planes_apart`` weights of format ``bip1`` whose groups alternate, each with its scales:
    stored group g is plane ``g mod planes_apart`` over the activations of group ``g div planes_apart``.
    """

    m: int
    n: int
    k: int
    format: Format
    act: str
    out: str
    algorithm: str
    isa: str
    tile: int
    blocks: int
    batch: int
    unroll: int
    prefetch: int
    threads: int
    preparation: str
    split: str = "contiguous"
    pages: str = "system"
    converts_half: bool = True
    has_gfni: bool = False
    prepared: str = ""
    planes_apart: int = 1

    @classmethod
    def of(cls, workload: Workload, schedule: Schedule) -> Plan:
        """The plan of a supported workload and a schedule of its space."""
        values = workload.values
        weight: Format = values["weight"]
        element = attrs.evolve(weight, kind="bip1") if weight.is_binary_coded else weight
        return cls(
            planes_apart=weight.scale_planes,
            m=values["m"],
            n=values["n"],
            k=values["k"],
            format=element,
            act=values["act"].kind,
            prepared=values["act"].element if isinstance(values["act"], PreparedFormat) else "",
            out=values["out"].kind,
            **schedule.as_dict(),  # type: ignore[arg-type]
        )

    # -- what a line is

    @property
    def is_lut(self) -> bool:
        return self.algorithm == "lut"

    @property
    def is_mirror(self) -> bool:
        """Look-ups in half tables, a byte an index and a sign."""
        return self.algorithm == "mirror"

    @property
    def is_triplets(self) -> bool:
        """Look-ups of three ternary digits, an index of four bits and a sign elsewhere."""
        return self.algorithm == "triplets"

    @property
    def has_half_tables(self) -> bool:
        """Look-ups find a sum or its mirror image."""
        return self.is_mirror or self.is_triplets

    @property
    def sums_digits(self) -> bool:
        """Tables are of ternary digits: three, or five."""
        return self.has_half_tables and self.format.kind == "tern"

    @property
    def vector_bytes(self) -> int:
        return VECTOR_BYTES[self.isa]

    @property
    def rows_across(self) -> bool:
        """Every byte of a line is another row (``pshufb`` looks up one table for 16 bytes)."""
        return self.is_triplets or (self.is_lut and self.isa in ("avx512bw", "avx2"))

    @property
    def block_rows(self) -> int:
        """Rows of a line."""
        if self.is_mirror:
            return 64
        return self.vector_bytes if self.rows_across else 16

    @property
    def line_bytes(self) -> int:
        return self.vector_bytes if self.rows_across else 64

    @property
    def lanes(self) -> int:
        """Rows of one vector of 32-bit sums."""
        return self.vector_bytes // 4

    @property
    def field(self) -> int:
        """Bits of a field (not ``lut``)."""
        return field_bits(self.format.bits)

    @property
    def fields(self) -> int:
        """Fields of a byte (not ``lut``)."""
        return 8 // self.field

    @property
    def planes(self) -> int:
        """Lines of a step: one per bit for sums over bit planes; signs and indices of triplets; else one."""
        if self.is_triplets:
            return 1 + TRIPLETS // 2
        return self.format.bits if self.is_lut or (self.is_mirror and not self.sums_digits) else 1

    @property
    def step_k(self) -> int:
        """Elements of K of one step."""
        if self.is_lut:
            return 8 if self.rows_across else 32
        if self.is_mirror:
            return self.table_k
        return self.table_k * TRIPLETS if self.is_triplets else 4 * self.fields

    @property
    def table_k(self) -> int:
        """Elements of K of a half table."""
        if self.is_triplets:
            return 3
        return 5 if self.sums_digits else 8

    @property
    def entries(self) -> int:
        """Entries of a half table, and bytes."""
        return 16 if self.is_triplets else 128

    @property
    def parts(self) -> int:
        """Vectors of a line."""
        return self.line_bytes // min(self.vector_bytes, self.line_bytes)

    @property
    def accumulators(self) -> int:
        """Vectors of sums per vector of a line and row of x."""
        if self.is_lut:
            enough = self.blocks * self.batch >= _ENOUGH_SUMS
            return 4 if self.rows_across else 1 if enough else 2
        if self.has_half_tables:
            return 2
        if self.algorithm == "dequantise":
            return max(1, 4 // self.parts)
        if self.isa == "avx2":
            return 2 if self.format.bits == 8 else 1
        return self.fields

    @property
    def summed_planes(self) -> int:
        """Bit planes that look-ups in half tables sum; one for ternary digits."""
        return 1 if self.sums_digits else self.planes

    @property
    def step_products(self) -> int:
        """Dot products or look-ups per step of one vector of a line and one row of x."""
        if self.is_lut:
            return 2 * self.planes
        if self.has_half_tables:
            return TRIPLETS if self.is_triplets else self.planes
        if self.algorithm == "dequantise":
            return 4 * self.fields
        return 2 if self.isa == "avx2" and self.format.bits == 8 else self.fields

    # -- K

    @property
    def group(self) -> int:
        """Elements of K that share a scale, before padding; rows longer than an inner loop can sum are cut."""
        if self.format.group == PER_ROW:
            largest = self.largest_tables * self.table_k if self.has_half_tables else LARGEST_GROUP
            unit = 160 if self.is_mirror else 48 if self.is_triplets else 32  # whole steps, whichever they are
            parts = ceil_div(self.k, max(largest // unit, 1) * unit)
            return self.k if parts == 1 else ceil_div(ceil_div(self.k, parts), unit) * unit
        return min(int(self.format.group or 0), self.k)

    @property
    def groups(self) -> int:
        return ceil_div(self.k, self.group)

    @property
    def stored_groups(self) -> int:
        """Groups of the packed weights."""
        return self.groups * self.planes_apart

    @property
    def padded_group(self) -> int:
        """Elements of K of a group as stored."""
        unit = self.table_k if self.has_half_tables else max(self.step_k, _ROUND_GROUP)
        return ceil_div(self.group, unit) * unit

    @property
    def padded_k(self) -> int:
        return self.groups * self.padded_group

    @property
    def is_exact(self) -> bool:
        """K needs no padding."""
        return self.padded_k == self.k

    @property
    def steps(self) -> int:
        """Whole steps of a group. Only triplets may be left over."""
        return self.padded_group // self.step_k

    @property
    def tables(self) -> int:
        """Half tables of a group."""
        return self.padded_group // self.table_k

    @property
    def table_places(self) -> int:
        """Places for the half tables of a group: triplets' are made in pairs."""
        return self.tables + self.tables % 2 if self.is_triplets else self.tables

    @property
    def left_over(self) -> int:
        """Triplets of a group behind its whole steps; they take as few lines as hold them."""
        return self.tables % TRIPLETS if self.is_triplets else 0

    @property
    def group_lines(self) -> int:
        """Lines of a block."""
        return self.steps * self.planes + (1 + ceil_div(self.left_over, 2) if self.left_over else 0)

    # -- N

    @property
    def tiles(self) -> int:
        return ceil_div(self.n, self.tile)

    @property
    def padded_n(self) -> int:
        return self.tiles * self.tile

    @property
    def tile_blocks(self) -> int:
        return self.tile // self.block_rows

    # -- bytes

    @property
    def block_bytes(self) -> int:
        return self.group_lines * self.line_bytes

    @property
    def weight_bytes(self) -> int:
        """Packed codes, padding included."""
        return self.tiles * self.stored_groups * self.tile_blocks * self.block_bytes

    @property
    def packed_bytes(self) -> int:
        """Everything packed: codes, scales and zero points."""
        per_group = self.format.scale_dtype.itemsize + (1 if self.format.zero_points else 0)
        return self.weight_bytes + self.padded_n * self.stored_groups * per_group

    @property
    def table_bytes(self) -> int:
        """Prepared activations: int8 or float values, 16-entry tables of 4, or 128-entry tables of a step."""
        if self.has_half_tables:
            return self.m * self.groups * self.table_places * self.entries
        per_k = {"lut": 4, "integer": 1, "dequantise": 4}[self.algorithm]
        return self.m * self.padded_k * per_k

    @property
    def value_words(self) -> int:
        """32-bit words of codes or tables that were prepared before."""
        return PreparedFormat(self.prepared, self.group).value_words(self.m, self.k)

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Of the argument x: activations, or the words of prepared ones."""
        if not self.prepared:
            return self.m, self.k
        return (PreparedFormat(self.prepared, self.group).words(self.m, self.k),)

    @property
    def layout(self) -> str:
        """Id of the packed layout; equal ids hold equal bytes for equal weights."""
        line = f"planes-r{self.block_rows}" if self.is_lut else f"fields{self.field}"
        if self.is_mirror:
            line = "quintets" if self.sums_digits else "octets"
        if self.is_triplets:
            line = f"triplets-r{self.block_rows}"
        if self.planes_apart > 1:
            line = f"{self.planes_apart}x{line}"
        return f"gemv-{line}-k{self.step_k}-g{self.padded_group}-t{self.tile}-b{self.blocks}:3"

    # -- sums

    @property
    def zero_point(self) -> float:
        """The constant zero point (0 where zero points are stored)."""
        return 0.0 if self.format.zero_points else self.format.zero_point

    @property
    def code_bias(self) -> float:
        """h of ``code = (Σ_p 2^p·(±1)) / 2 + h``: what a sum over bit planes (or digits) lacks; 0 for whole codes."""
        if self.sums_digits:
            return self.format.zero_point
        return ((1 << self.format.bits) - 1) / 2.0 if self.is_lut or self.is_mirror else 0.0

    @property
    def largest_tables(self) -> int:
        """Half tables of a group at most: so many bytes, weighted by their planes, add up in 16 bits."""
        return LARGEST_TABLES // ((1 << self.summed_planes) - 1)

    @property
    def centre(self) -> float:
        """What the bytes summed over one group exceed the entries they stand for, in units (half tables)."""
        return 127.5 * self.tables * ((1 << self.summed_planes) - 1)

    @property
    def start(self) -> int:
        """Where the first plane's sums of half-table bytes begin, so that those over all planes end around zero."""
        return -math.ceil(self.centre / (1 << self.summed_planes - 1))

    @property
    def excess(self) -> float:
        """What these sums still exceed the entries by: less than 2^planes units."""
        return self.centre + self.start * (1 << self.summed_planes - 1) if self.has_half_tables else 0.0

    @property
    def has_offset(self) -> bool:
        """A group's sums lack something that does not depend on the row (see ``activations``)."""
        return self.code_bias != self.zero_point or self.excess != 0.0
