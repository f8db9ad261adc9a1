"""Cycles of the busiest thread by cause, from a plan alone, without compiling it.

Counted is what the loops of ``split.py``, ``integers.py`` and ``tiles.py`` issue: products of vectors, the additions
into one sum, which wait for each other, loads and broadcasts of their operands; these hide each other. What surrounds
them adds to it: vectors decoded, summed across lanes, exponentiated, rounded, packed and moved. What one of each costs
was fitted to 481 random schedules of 12 workloads on a Zen 4, the fast ones weighing most (docs/cpu-attention.md); on
other machines it is rough, and the cost model learns by how much from the trials.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import attrs
import numpy as np

from fettle.backends.api import Device
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.attention.plan import CODE_BYTES, Plan
from fettle.backends.rounding import ceil_div

CLOCK = 3.7e9
"""Cycles a second of the machine the constants were fitted on."""

_PRODUCT = 1.0
"""Cycles of a multiply-add of vectors; one of pairs or of bytes takes as long."""

_WAIT = 2.0
"""Cycles until the next addition into the same sum, as far as the processor does not run ahead."""

_LOAD, _BROADCAST, _FAR = 1.06, 0.47, 0.83
"""Cycles of loading a vector, a number into all lanes, and what a vector from beyond the L1 cache takes more."""

_L3_BYTE, _DRAM_BYTE = 0.037, 0.13
"""Cycles of a byte that no cache of a core holds, read in the order of memory: 100 and 28 GB/s."""

_OUT_OF_ORDER, _LONG_RUN = 3.4, 1.7
"""Factors on a byte of memory whose lines are not read one after the other, which the processor then does not read
ahead; and on one of values that one register tile reads alone before the others do."""

_SHARE = 0.375
"""Of the last level, what others leave to a cache of keys and values."""

_NEAR, _NEAR_BYTES = 1.15, 256
"""The factor where several keys are read in turns whose rows have no more bytes than that."""

_RUN_BYTES = 8192
"""Bytes of values that stay in a core while the next are read ahead."""

_HIDING = 4
"""Exponent of the norm that combines what hides each other."""

_COSTS: Mapping[str, float] = {
    "decode": 0.28,
    "sum": 1.2,
    "round": 10.6,
    "exp": 9.3,
    "degree": 1.65,
    "mask": 1.5,
    "row": 18.0,
    "moved": 7.8,
    "pack": 20.0,
    "prefetch": 0.16,
    "parked": 3.3,
    "scaled": 3.2,
    "fork": 6600.0,
}
"""Cause -> cycles of one: an instruction that decodes; a vector summed across lanes, rounded, exponentiated (and for
each degree of the polynomial), masked, moved as a result, or packed; a row of a chunk; a line asked for ahead; a
vector of sums that waits in memory, stored and loaded; a vector of queries scaled; a loop that
threads share."""


@attrs.frozen
class _Loop:
    """Register tiles with equally many sums, all their runs together.

    Attributes:
        products: multiply-adds of vectors.
        sums: in flight.
        loads: of vectors; ``far`` of them are not in the L1 cache.
        broadcasts: loads of a number into all lanes.
    """

    products: float
    sums: int
    loads: float
    broadcasts: float = 0.0
    far: float = 0.0

    @property
    def cycles(self) -> float:
        loads = self.loads * _LOAD + self.broadcasts * _BROADCAST + self.far * _FAR
        causes = (self.products * _PRODUCT, self.products / self.sums * _WAIT, loads)
        return _longest(causes)


def _longest(cycles: Iterable[float]) -> float:
    """Of what hides each other: near the maximum, a little more where two are close."""
    return float(sum(c**_HIDING for c in cycles) ** (1 / _HIDING))


def busiest_thread(plan: Plan, device: Device) -> dict[str, float]:
    """Cycles of the thread with most to do, by cause, and in ``all``: bringing the cache to a core hides the loops."""
    loops, around = counted(plan, device)
    hidden = {"loops": sum(loop.cycles for loop in loops), "read": read_cycles(plan, device)}
    others = {cause: count * _COSTS[cause] for cause, count in around.items()}
    return {**hidden, **others, "all": _longest(hidden.values()) + sum(others.values())}


def counted(plan: Plan, device: Device) -> tuple[list[_Loop], dict[str, float]]:
    """The loops of the busiest thread, and how much there is of what surrounds them."""
    l1 = cpu.l1_bytes(device)
    if plan.algorithm == "tiles":
        return _tiles(plan, l1)
    return _integers(plan, l1) if plan.i8 else _split(plan, l1)


def read_cycles(plan: Plan, device: Device) -> float:
    """Cycles of bringing the busiest thread's part of a cache to a core, if no L2 cache holds it."""
    row = plan.cache_columns * plan.cache_bytes
    stored = 2 * plan.batch * plan.kv_heads * plan.kv * row
    part = stored / plan.threads
    if part <= cpu.l2_bytes(device):
        return 0.0
    if stored <= cpu.last_level_bytes(device) * _SHARE:
        return part * _L3_BYTE
    return part / 2 * _DRAM_BYTE * (_key_order(plan, row) + _value_order(plan, row))


def _key_order(plan: Plan, row: int) -> float:
    """Factor on reading keys of ``row`` bytes: 1 if line by line as they lie."""
    if plan.algorithm == "tiles" or plan.keys == 1 or row <= CODE_BYTES:
        return 1.0
    return _NEAR if row <= _NEAR_BYTES else _OUT_OF_ORDER


def _value_order(plan: Plan, row: int) -> float:
    """The same of values: the first of several register tiles reads whole rows, and the others find a run of them in a
    cache of the core. Codes wait for instructions, in any order."""
    if plan.algorithm == "tiles" or plan.is_quantised or row <= CODE_BYTES:
        return 1.0
    if plan.tile_vectors < len(plan.lines) * plan.parts:
        return _OUT_OF_ORDER
    return 1.0 if plan.tile_rows >= plan.rows or plan.run * row <= _RUN_BYTES else _LONG_RUN


def _register_tiles(rows: int, step: int) -> Iterator[tuple[int, int]]:
    """(rows of a register tile, how many of them)."""
    whole, rest = divmod(rows, step)
    if whole:
        yield step, whole
    if rest:
        yield rest, 1


# few queries


def _split(plan: Plan, l1: int) -> tuple[list[_Loop], dict[str, float]]:
    heads, vectors = _heads(plan), ceil_div(plan.kv, plan.lanes)
    keys, padded = heads * plan.kv, heads * vectors * plan.lanes
    lines, parts, registers = len(plan.lines), plan.parts, plan.registers
    run = min(plan.run, plan.chunk, plan.kv)
    far = run * plan.cache_columns * plan.cache_bytes > l1 / 2
    width = min(max(1, plan.tile_vectors // parts), lines)
    steps = keys / plan.unit
    kept = 2 * keys / run
    loops = []
    decoded = 0.0
    for rows, count in _register_tiles(plan.rows, plan.score_rows):
        loads = padded * count * (lines + rows * registers / plan.keys)
        loops.append(_Loop(padded * count * rows * registers, rows * plan.keys, loads))
        decoded += padded * count * lines * plan.key_decoding
    for rows, count in _register_tiles(plan.rows, plan.tile_rows):
        loads = keys * count * lines
        broadcasts = steps * count * rows * ceil_div(lines, width)
        products = steps * count * rows * lines * parts
        loads += kept * count * rows * lines * parts
        loops.append(_Loop(products, rows * width * parts, loads, broadcasts, keys * count * lines * far))
        decoded += keys * count * lines * (plan.value_decoding + plan.bf16)
    return loops, {
        **_around(plan, heads, vectors),
        "decode": decoded,
        "sum": padded * plan.rows,
        "parked": 0.0 if plan.unrolls_keys else padded * plan.rows,
        "scaled": heads * plan.chunks * plan.chunk_groups * plan.rows * registers * plan.scales_queries,
        "prefetch": _prefetched(plan, padded, ceil_div(plan.rows, plan.score_rows)),
    }


def _integers(plan: Plan, l1: int) -> tuple[list[_Loop], dict[str, float]]:
    heads, vectors = _heads(plan), ceil_div(plan.kv, plan.lanes)
    keys, padded = heads * plan.kv, heads * vectors * plan.lanes
    lines, parts = plan.cache_columns // CODE_BYTES, 8 // plan.code_bits
    far = min(plan.chunk, plan.kv) * plan.cache_columns > l1 / 2
    loops, decoded = [], 0.0
    for rows, count in _register_tiles(plan.rows, plan.score_rows):
        products = padded * count * rows * 2 * lines * parts
        loops.append(_Loop(products, 2 * rows * plan.keys, padded * count * lines + products))
        decoded += padded * count * lines * 3 * (parts - 1)
    quarters = plan.tile_vectors
    for rows, count in _register_tiles(plan.rows, plan.tile_rows):
        runs = keys / 4 * count * lines * 4 / quarters
        sums = 2 * rows * quarters * parts
        loops.append(_Loop(runs * sums, sums, runs * 4, runs * rows * 2, runs * 4 * far))
        decoded += runs * (min(quarters, 2) * 2 + quarters * (1 + 3 * (parts - 1)))
    rounded = plan.chunks * plan.chunk_groups * plan.dim / plan.lanes + vectors
    return loops, {
        **_around(plan, heads, vectors),
        "decode": decoded,
        "sum": padded * plan.rows * 1.5,
        "round": heads * plan.rows * rounded,
        "prefetch": _prefetched(plan, padded, ceil_div(plan.rows, plan.score_rows)),
    }


def _heads(plan: Plan) -> float:
    """Heads of keys of the thread with most chunks."""
    return ceil_div(plan.batch * plan.kv_heads * plan.chunks, plan.threads) / plan.chunks


def _prefetched(plan: Plan, keys: float, passes: int) -> float:
    """Cache lines asked for ahead."""
    return keys * passes * plan.cache_columns * plan.cache_bytes / 64 if plan.prefetch else 0.0


def _around(plan: Plan, heads: float, vectors: int) -> dict[str, float]:
    """Softmax of all rows and chunks, and merging them."""
    rows = heads * plan.chunks * plan.rows
    merged = ceil_div(plan.batch * plan.kv_heads * plan.rows, plan.threads) * plan.chunks
    weighed = heads * plan.rows * vectors
    return {
        "exp": weighed + merged,
        "degree": (weighed + merged) * plan.degree,
        "mask": weighed * (plan.mask is not None),
        "row": rows,
        "moved": (rows + merged) * plan.dim_vectors,
        "fork": 2.0 * (plan.threads > 1),
    }


# many queries


def _tiles(plan: Plan, l1: int) -> tuple[list[_Loop], dict[str, float]]:
    n, wide, tile = plan.lanes, plan.tile_vectors, plan.tile_rows
    blocks = ceil_div(plan.rows, plan.block)
    first = np.arange(blocks) * plan.block
    last = np.minimum(first + plan.block, plan.rows)
    seen = (last - 1) // plan.group + plan.kv - plan.q + 1 if plan.causal else np.full(blocks, plan.kv)
    groups, chunks = -(-seen // n), -(-seen // plan.chunk)
    tiles = -((first - last) // tile)
    all_heads = plan.batch * plan.kv_heads
    heads = ceil_div(all_heads * blocks, plan.threads) / blocks
    runs = heads * float(tiles @ groups)  # of register tiles one vector of keys wide
    key_steps = runs * plan.dim_units
    value_steps = heads * float(tiles @ -(-seen // plan.unit))
    panels = ceil_div(plan.dim_vectors, wide)
    width = min(wide, plan.dim_vectors)
    keys_far = plan.dim_units * wide * n * 4 > l1
    values_far = min(plan.chunk, plan.kv) // plan.unit * plan.dim_vectors * n * 4 > l1
    values = value_steps * plan.dim_vectors
    loops = [
        _Loop(key_steps * tile, tile * wide, key_steps, key_steps * tile / wide, key_steps * keys_far),
        _Loop(values * tile, tile * width, values, value_steps * tile * panels, values * values_far),
    ]
    packed = ceil_div(all_heads * ceil_div(plan.kv, n), plan.threads) * n
    vectors, rows = runs * tile, heads * tile * float(tiles @ chunks)
    return loops, {
        "exp": vectors,
        "degree": vectors * plan.degree,
        "mask": vectors * (plan.mask is not None),
        "row": rows,
        "moved": (rows + heads * tile * float(tiles.sum())) * plan.dim_vectors,
        "fork": 2.0 * (plan.threads > 1),
        "decode": 2 * packed * len(plan.lines) * plan.value_decoding,
        "pack": packed * plan.dim_vectors / plan.unit,
    }
