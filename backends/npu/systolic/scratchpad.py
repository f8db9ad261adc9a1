"""Where the tensors of an attention mapping lie in the scratchpad: planned, so that what never lives together shares.

A block of queries is worked on in walks over the keys. Walk w lasts from moment 2w to 2w + 2; in its second half its
last tile is computed, while with two buffers the first tile of the next walk is loaded into the slot that is free.
"""

from __future__ import annotations

from collections.abc import Mapping

from fettle.backends.api import Value
from fettle.backends.npu.systolic import cascade
from fettle.graph.memory.buffers import Buffer, lower_bound
from fettle.graph.memory.plan import MemoryPlan, plan

SUM_BYTES = 4

_PLANNING_SECONDS = 0.1
"""There are nine tensors at most."""


def tensors(
    einsums: cascade.Cascade, values: Mapping[str, Value], kv: int, dim: int, query_bytes: int, cache_bytes: int
) -> list[Buffer]:
    """Tensors of one block of queries, with the moments between which they live.

    The first slot of keys is never given up: the next block's keys are loaded before this block is finished. Carried
    tensors overwrite each other in place.
    """
    block, tile, columns = (int(values[name]) for name in ("block_q", "tile_kv", "block_kv"))
    double = values["buffers"] == 2
    last = cascade.passes(einsums)
    keys, weighted = cascade.read_in(einsums, "K"), cascade.read_in(einsums, "V")
    apart = weighted > keys
    end = 2 * last + 2
    slot = tile * dim * cache_bytes
    found = [
        Buffer("queries", 2, end, block * dim * query_bytes),
        Buffer("logits", 2, end, SUM_BYTES * block * columns),
        Buffer("weights", 2, end, SUM_BYTES * block * columns),
        Buffer("keys 0", 2, end, slot),
        Buffer("values 0", 2 * weighted - (double and apart), 2 * weighted + 2, slot),
        Buffer("result", 2 * weighted, end, SUM_BYTES * block * dim),
    ]
    if double:
        found.append(Buffer("keys 1", 2 * keys, 2 * keys + (1 if apart else 2), slot))
        found.append(Buffer("values 1", 2 * weighted, 2 * weighted + 2, slot))
    if carried := cascade.carried(einsums):
        first, final = min(begin for _, begin, _ in carried), max(walk for *_, walk in carried)
        found.append(Buffer("carried", 2 * first, 2 * final + 2, SUM_BYTES * block * kv))
    return found


def lay_out(buffers: list[Buffer]) -> MemoryPlan:
    """Their places, in as little memory as can be found."""
    return plan(buffers, lower_bound(buffers), seconds=_PLANNING_SECONDS)
