"""What a workload and a schedule say together: extents and number formats of one attention kernel."""

from __future__ import annotations

import attrs

from fettle.backends.api import Device, Schedule
from fettle.backends.cpu import device as cpu
from fettle.backends.rounding import ceil_div
from fettle.graph.workload import Workload

DOTS_BF16 = "avx512bf16"
"""The feature with which two bf16 products are summed in one instruction."""

DOTS_I8 = frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni"})
"""Features with which four products of bytes are, in registers of 512 bits."""

CODE_BYTES = 64
"""Bytes of codes in such a register."""

QUERIES = 2
"""Query rows that codes of keys meet at once, at most: more bytes of queries, and sums that wait to be added, do not
fit the registers."""

_UNROLLED = 512
"""Products that are unrolled, at most: twice as many take LLVM a second, and leave too few registers for what waits to
be added. Up to here loops took up to 8 % longer; decoded keys lost nothing in them."""


def line(cache: str, lanes: int) -> int:
    """Elements of keys or values read at once: what fills a register, or two where codes or bf16 come in pairs."""
    return lanes if cache in ("f32", "u8") else 2 * lanes


def lanes(workload: Workload, device: Device) -> int:
    """f32 values per vector: the widest registers of which one line fits in a head; 0 if none does."""
    widest, dim, cache = cpu.vector_bits(device) // 32, workload["dim"], workload["kvcache"].kind
    return max((width for width in (4, 8, 16) if width <= widest and line(cache, width) <= dim), default=0)


def sums(device: Device) -> int:
    """Vectors of sums that leave registers for the factors."""
    return 24 if cpu.vector_bits(device) == 512 else 12


@attrs.frozen
class Plan:
    """Extents of one kernel.

    Attributes:
        rows: queries that share their keys: ``group`` heads times ``q`` positions, head by head.
        bf16: products are bf16 dot products, two at a time.
        i8: products are those of bytes, four at a time, with codes as they lie; otherwise f32.
        cache_group: keys that share scales and zeros, where keys are quantised.
        mask: extents of what is added to the scaled scores, broadcast to batch, heads, q, kv.
        chunk: keys of one task (split) or of one block (tiles).
        block: query rows of one task (tiles).
        tile_rows, tile_vectors: the register tile of both products; where keys are split, of the second.
        keys: keys whose scores are summed at once (split).
        run: keys whose values are added for all queries before the next are (split).
        lanes: f32 values per vector.
        sums: vectors of sums that leave registers for the factors.
    """

    batch: int
    heads: int
    kv_heads: int
    q: int
    kv: int
    dim: int
    act: str
    cache: str
    cache_group: int
    causal: bool
    scale: float
    mask: tuple[int, ...] | None
    algorithm: str
    bf16: bool
    i8: bool
    chunk: int
    block: int
    tile_rows: int
    tile_vectors: int
    keys: int
    run: int
    degree: int
    prefetch: int
    threads: int
    lanes: int
    sums: int

    @classmethod
    def of(cls, workload: Workload, schedule: Schedule, device: Device) -> Plan:
        values = workload.values
        return cls(
            batch=values["batch"],
            heads=values["heads"],
            kv_heads=values["kv_heads"],
            q=values["q"],
            kv=values["kv"],
            dim=values["dim"],
            act=values["act"].kind,
            cache=values["kvcache"].kind,
            cache_group=values["kvcache"].group or 1,
            causal=bool(values["causal"]) and values["q"] > 1,
            scale=values["scale"],
            mask=None if values["mask"] is None else tuple(values["mask"]),
            algorithm=schedule["algorithm"],
            bf16=schedule["dot"] == "bf16",
            i8=schedule["dot"] == "i8",
            chunk=schedule["chunk"],
            block=schedule["block"],
            tile_rows=schedule["tile_rows"],
            tile_vectors=schedule["tile_vectors"],
            keys=schedule["keys"],
            run=schedule["run"],
            degree=schedule["degree"],
            prefetch=schedule["prefetch"],
            threads=schedule["threads"],
            lanes=lanes(workload, device),
            sums=sums(device),
        )

    @property
    def is_quantised(self) -> bool:
        return self.cache in ("u8", "u4")

    @property
    def cache_groups(self) -> int:
        """Groups of keys of a head, the last possibly short."""
        return -(-self.kv // self.cache_group)

    @property
    def group(self) -> int:
        """Heads that share one head of keys and values."""
        return self.heads // self.kv_heads

    @property
    def rows(self) -> int:
        return self.group * self.q

    @property
    def line(self) -> int:
        return line(self.cache, self.lanes)

    @property
    def parts(self) -> int:
        """f32 vectors in a line."""
        return self.line // self.lanes

    @property
    def registers(self) -> int:
        """Registers of the lines that cover ``dim``."""
        return len(self.lines) * (1 if self.bf16 else self.parts)

    @property
    def lines(self) -> tuple[int, ...]:
        """Where the lines that cover ``dim`` start. The last may overlap the one before."""
        return tuple(min(start, self.dim - self.line) for start in range(0, self.dim, self.line))

    @property
    def chunks(self) -> int:
        return -(-self.kv // self.chunk)

    @property
    def last_groups(self) -> int:
        """Vectors of keys in the last chunk."""
        return -(-(self.kv - (self.chunks - 1) * self.chunk) // self.lanes)

    @property
    def unit(self) -> int:
        """Elements in a lane of a register."""
        return 2 if self.bf16 else 1

    @property
    def dim_units(self) -> int:
        return self.dim // self.unit

    @property
    def dim_vectors(self) -> int:
        return -(-self.dim // self.lanes)

    @property
    def key_groups(self) -> int:
        """Groups of ``lanes`` keys of a head, chunks filled up."""
        return self.chunks * self.chunk // self.lanes

    @property
    def key_units(self) -> int:
        return self.chunks * self.chunk // self.unit

    @property
    def chunk_groups(self) -> int:
        """Groups of keys with scales of their own in a chunk."""
        return -(-min(self.chunk, self.kv) // self.cache_group)

    @property
    def scales_queries(self) -> bool:
        """Whether queries take over the scales of quantised keys: the keys of a vector are of one group, and chunks are
        whole groups or groups whole chunks."""
        if not self.is_quantised or self.cache_group % self.lanes:
            return False
        return self.chunk % self.cache_group == 0 or self.cache_group % self.chunk == 0

    @property
    def key_decoding(self) -> int:
        """Instructions that make a line of keys what is multiplied: widened, converted, scaled."""
        if self.bf16 or self.cache == "f32":
            return 0
        if self.scales_queries:
            return 3 * self.parts - 1
        return self.value_decoding

    @property
    def value_decoding(self) -> int:
        """The same for a line of values."""
        if self.bf16 or self.cache == "f32":
            return 0
        return 2 if self.cache == "bf16" else 4 * self.parts + 1

    @property
    def score_rows(self) -> int:
        """Query rows whose scores are summed at once (split): all, or equal parts that fit the registers and, if
        possible, unroll."""
        most = QUERIES if self.i8 else max(1, self.sums // self.keys)
        if not self.is_quantised:
            most = max(1, min(most, _UNROLLED // (self.lanes * self.registers)))
        return ceil_div(self.rows, ceil_div(self.rows, most))

    @property
    def unrolls_keys(self) -> bool:
        """Whether the products of a vector of keys are code without a loop (split), in all register tiles together."""
        return not self.is_quantised and self.lanes * self._unrolled_rows * self.registers <= _UNROLLED

    @property
    def unrolls_lines(self) -> bool:
        """Whether those of ``keys`` keys are (split)."""
        return self.keys * self._unrolled_rows * self.registers <= _UNROLLED

    @property
    def _unrolled_rows(self) -> int:
        """Rows of the register tile of scores, and of the smaller one for what is left."""
        return self.score_rows + self.rows % self.score_rows

    @property
    def code_bits(self) -> int:
        return 4 if self.cache == "u4" else 8

    @property
    def middle_code(self) -> int:
        return 1 << (self.code_bits - 1)

    @property
    def cache_columns(self) -> int:
        """Stored elements of a row of keys or values."""
        return self.dim // 2 if self.cache == "u4" else self.dim

    @property
    def cache_bytes(self) -> int:
        """Of one stored element."""
        return {"f32": 4, "bf16": 2}.get(self.cache, 1)
