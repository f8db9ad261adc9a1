"""Schedules of attention. Needs no TVM.

============  =====================================================================================
algorithm     ``split`` the keys over tasks (few queries), or ``tiles`` of queries (many)
dot           both products in ``f32``; ``bf16`` pairs where the processor has dot products of them; or ``i8``, the
              codes of a quantised cache as they lie by queries and probabilities of 15 bits (split)
chunk         keys of one task (split), or of one block whose scores are kept (tiles)
block         query rows of one task (tiles)
tile_rows     query rows of the register tile
tile_vectors  vectors of keys, and of ``dim``, in the register tile
keys          keys whose scores are summed at once (split): one is read in the order of memory, more share queries
run           keys whose values are added for all queries before the next (split), short enough to stay in the L1 cache
degree        of the exponential's polynomial
prefetch      keys of codes asked for ahead (split); 0 leaves it to the hardware, which others need: asked for, lines
              are no longer read in the order of memory
threads       threads that share the tasks
============  =====================================================================================
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence

import attrs

from fettle.backends.api import Candidate, Constraint, Device, Parameter, Schedule, Space, Support, Value
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.attention.analysis import busiest_thread
from fettle.backends.cpu.attention.plan import CODE_BYTES, DOTS_BF16, DOTS_I8, Plan, lanes, sums
from fettle.backends.spaces import enumerate_space
from fettle.graph.workload import Workload

VERSION = "attention-4"

_CHUNKS = (64, 128, 256, 512, 1024)
_BLOCKS = (12, 24, 48, 64, 96, 128, 192)
_TILE_ROWS = (1, 2, 3, 4, 6, 8, 12)
_TILE_VECTORS = (1, 2, 4, 8)
_PACKED_VECTORS = 4
"""Vectors of packed keys in a register tile, at most."""

_QUARTERS = 4
"""Of a line of codes, which are what its vectors are."""

_KEYS = (1, 2, 4)
_RUNS = (16, 64, 1024)
_LARGEST_DIM = 256
_LARGEST_CHUNK = 512
"""Elements and keys of which products of a byte and 15 bits add up in 31."""

_VALUES = frozenset({"block", "tile_rows", "tile_vectors", "run"})
_SCORES = frozenset({"chunk", "keys", "threads"})
"""What the default is looked for in, in turns."""

_FEW = 32
"""Up to so many queries with the same keys, splitting the keys is the default."""

_MOST_SPLIT = 64
"""Up to so many, it is tried."""


def supports(workload: Workload, device: Device) -> Support:
    """Attention to all keys, or causal, over caches that the kernels decode."""
    if workload["pattern"] is not None:
        return Support.no("no block-sparse patterns")
    if "f16" in (workload["act"].kind, workload["kvcache"].kind) or workload["kvcache"].kind == "u2":
        return Support.no("neither f16 nor 2-bit caches")
    if not lanes(workload, device):
        return Support.no(f"dim={workload['dim']}: heads shorter than 128 bits are not worth a vector")
    return Support.yes()


def _dots(workload: Workload, device: Device) -> tuple[str, ...]:
    """Ways to multiply; bf16 pairs only where queries, keys and values are bf16, integers where a result is bf16.

    Where codes are multiplied as they lie, decoding them is left to tiles: it took one and a half times as long.
    """
    if _takes_codes(workload, device):
        return ("i8", "f32") if "tiles" in _algorithms(_rows(workload)) else ("i8",)
    narrow = workload["act"].kind == "bf16" and workload["kvcache"].kind == "bf16"
    return ("bf16", "f32") if narrow and DOTS_BF16 in cpu.features(device) else ("f32",)


def _takes_codes(workload: Workload, device: Device) -> bool:
    """Whether codes fill registers of bytes and sums of their products fit 32 bits, in chunks of whole groups of keys,
    or groups of whole chunks."""
    cache, dim = workload["kvcache"], workload["dim"]
    if workload["mask"] is not None:
        return False
    if not cache.is_quantised or workload["act"].kind != "bf16" or not cpu.features(device) >= DOTS_I8:
        return False
    fills = dim * cache.bits % (8 * CODE_BYTES) == 0
    whole = cache.group >= 16 and cache.group.bit_count() == 1  # as chunks are powers of two
    return fills and whole and dim <= _LARGEST_DIM and "split" in _algorithms(_rows(workload))


def _sums_of_codes(workload: Workload) -> int:
    """Sums of a byte of codes: of the high and the low byte of what multiplies it, for every code in it."""
    return int(2 * 8 // workload["kvcache"].bits)


def space(workload: Workload, device: Device) -> Space:
    """All schedules of a supported workload."""
    kv, rows, width = workload["kv"], _rows(workload), lanes(workload, device)
    dots = _dots(workload, device)
    parameters = (
        Parameter.categorical("algorithm", _algorithms(rows)),
        Parameter.categorical("dot", dots),
        Parameter("chunk", tuple(c for c in _CHUNKS if c < 2 * kv) or _CHUNKS[:1]),
        Parameter("block", tuple(b for b in _BLOCKS if b < 2 * rows) or _BLOCKS[:1]),
        Parameter("tile_rows", tuple(r for r in _TILE_ROWS if r <= rows)),
        Parameter("tile_vectors", _TILE_VECTORS),
        Parameter("keys", _KEYS),
        Parameter("run", _RUNS),
        Parameter("degree", (4, 5, 6) if workload["act"].kind == "bf16" else (5, 6)),
        Parameter("prefetch", (0, 4, 8, 16) if workload["kvcache"].is_quantised else (0,)),
        Parameter("threads", cpu.thread_counts(device)),
    )
    least = parameters[3].choices[0]
    constraints = [
        Constraint(f"tile_rows * tile_vectors <= {sums(device)}", "sums in registers"),
        Constraint(f"algorithm == 'tiles' or (block == {least} and tile_rows <= 8)", "all queries share a chunk"),
        Constraint(
            f"algorithm == 'split' or (prefetch == 0 and keys == 1 and run == {_RUNS[0]})",
            "tiles are read from packed copies",
        ),
        Constraint(f"algorithm == 'split' or tile_vectors <= {_PACKED_VECTORS}", "whole panels of packed keys"),
        Constraint("algorithm == 'split' or block % tile_rows == 0", "a block is made of whole register tiles"),
    ]
    if "i8" in dots:
        small = f"algorithm == 'split' and chunk <= {_LARGEST_CHUNK}"
        fit = f"tile_rows * tile_vectors * {_sums_of_codes(workload)} <= {sums(device)}"
        constraints += [
            Constraint(f"dot == 'f32' or ({small})", "sums of products fit 32 bits"),
            Constraint(
                f"dot == 'f32' or (tile_vectors <= {_QUARTERS} and run == {_RUNS[0]})", "quarters of a line, of a chunk"
            ),
            Constraint(f"dot == 'f32' or {fit}", "sums of both bytes, of all codes of a byte, in registers"),
            Constraint("dot == 'i8' or algorithm == 'tiles'", "codes are multiplied as they lie"),
        ]
    if workload["dim"] % 2 and "bf16" in dots:
        constraints.append(Constraint("algorithm == 'split' or dot == 'f32'", "packed pairs need an even dim"))
    if width * 4 > _CHUNKS[0]:
        constraints.append(Constraint(f"algorithm == 'split' or chunk % (tile_vectors * {width}) == 0", "whole panels"))
    return Space(parameters, constraints, VERSION)


def default(workload: Workload, device: Device) -> Schedule:
    """Few queries split the keys, many are computed in tiles; chunks, register tiles and threads are those of which the
    analysis expects most."""
    return _default(workload, device)


@functools.lru_cache(maxsize=256)
def _default(workload: Workload, device: Device) -> Schedule:
    """Found once: every look-up of a kernel that is not cached asks."""
    whole = space(workload, device)
    choices = {parameter.name: parameter.choices for parameter in whole.parameters}
    few = _rows(workload) <= _FEW
    dot = choices["dot"][0]
    if not few and (workload["dim"] % 2 or dot == "i8"):
        dot = "f32"
    fixed: dict[str, tuple[Value, ...]] = {
        "algorithm": ("split" if few else "tiles",),
        "dot": (dot,),
        "degree": choices["degree"][:1],
        "prefetch": choices["prefetch"][:1],
        "threads": tuple(dict.fromkeys((1, cpu.threads(device)))),
    }
    parameters = [attrs.evolve(p, choices=fixed.get(p.name, p.choices)) for p in whole.parameters]
    points = enumerate_space(attrs.evolve(whole, parameters=parameters))

    def cycles(schedule: Schedule) -> float:
        return busiest_thread(Plan.of(workload, schedule, device), device)["all"]

    return _least([points[index] for index in range(len(points))], cycles)


def _least(points: Sequence[Schedule], cost: Callable[[Schedule], float]) -> Schedule:
    """A point no worse than those that differ from it in what one product chooses: analysing all would take 0.1 s."""
    cost = functools.cache(cost)
    best, before = points[0], math.inf
    while cost(best) < before:
        before = cost(best)
        for free in (_VALUES, _SCORES):
            held = _without(best, free)
            best = min((point for point in points if _without(point, free) == held), key=cost)
    return best


def _without(schedule: Schedule, names: frozenset[str]) -> list[tuple[str, Value]]:
    return [item for item in schedule.values if item[0] not in names]


def _rows(workload: Workload) -> int:
    """Queries that share their keys."""
    return int(workload["heads"] // workload["kv_heads"] * workload["q"])


def _algorithms(rows: int) -> tuple[str, ...]:
    if rows < _BLOCKS[0]:
        return ("split",)
    return ("split", "tiles") if rows <= _MOST_SPLIT else ("tiles",)


def features(candidate: Candidate) -> Mapping[str, float]:
    """What a schedule keeps where, and how often it reads it; logarithms where numbers scale."""
    plan = Plan.of(candidate.workload, candidate.schedule, candidate.device)
    is_tiles = plan.algorithm == "tiles"
    l1 = cpu.l1_bytes(candidate.device)
    l2 = cpu.l2_bytes(candidate.device)
    element = 2 if plan.bf16 else 4
    heads = plan.batch * plan.kv_heads
    rows = min(plan.block, plan.rows) if is_tiles else plan.rows
    tasks = heads * (math.ceil(plan.rows / plan.block) if is_tiles else plan.chunks)
    chunk = min(plan.chunk, plan.kv)
    panel = plan.tile_vectors * plan.lanes * plan.dim if is_tiles else chunk * plan.dim
    return {
        "is_tiles": float(is_tiles),
        "is_bf16": float(plan.bf16),
        "is_i8": float(plan.i8),
        "log_chunk": math.log2(plan.chunk),
        "log_block": math.log2(plan.block),
        "log_tasks": math.log2(tasks),
        "idle_fraction": 1.0 - tasks / (plan.threads * math.ceil(tasks / plan.threads)),
        "log_panel_over_l1": math.log2(panel * element / l1),
        "log_scores_over_l1": math.log2(rows * chunk * 4 / l1),
        "log_chunk_over_l2": math.log2(chunk * plan.dim * element * 2 / l2),
        "reads_of_keys": math.ceil(plan.rows / (rows if is_tiles else plan.score_rows)),
        "sums_in_flight": float(min(plan.tile_rows, rows) * plan.tile_vectors),
        "log_tile_rows": math.log2(plan.tile_rows),
        "log_tile_vectors": math.log2(plan.tile_vectors),
        "log_keys": math.log2(plan.keys),
        "log_run": math.log2(plan.run),
        "row_waste": math.ceil(plan.rows / plan.block) * plan.block / plan.rows if is_tiles else 1.0,
        "degree": float(plan.degree),
        "prefetch": float(plan.prefetch),
        "log_threads": math.log2(plan.threads),
    }
