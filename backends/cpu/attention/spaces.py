"""Schedules of attention. Needs no TVM.

============  =====================================================================================
algorithm     ``split`` the keys over tasks (few queries), or ``tiles`` of queries (many)
dot           both products in ``f32``, or ``bf16`` pairs where the processor has dot products of them
chunk         keys of one task (split), or of one block whose scores are kept (tiles)
block         query rows of one task (tiles)
tile_rows     query rows of the register tile
tile_vectors  vectors of keys, and of ``dim``, in the register tile; keys in flight (split)
degree        of the exponential's polynomial
prefetch      keys asked for ahead (split); 0 leaves it to the hardware
threads       threads that share the tasks
============  =====================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from fettle.backends.api import Candidate, Constraint, Device, Parameter, Schedule, Space, Support
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.attention.plan import DOTS_BF16, Plan, lanes
from fettle.graph.workload import Workload

VERSION = "attention-1"

_CHUNKS = (64, 128, 256, 512, 1024)
_BLOCKS = (12, 24, 48, 64, 96, 128, 192)
_TILE_ROWS = (1, 2, 3, 4, 6, 8, 12)
_FEW = 16
"""Up to so many queries with the same keys, splitting the keys is the default."""
_MOST_SPLIT = 64


def supports(workload: Workload, device: Device) -> Support:
    if workload.operator != "attention":
        return Support.no("only attention")
    if not lanes(workload, device):
        return Support.no(f"dim={workload['dim']}: heads shorter than 128 bits are not worth a vector")
    return Support.yes()


def _dots(workload: Workload, device: Device) -> tuple[str, ...]:
    """Ways to multiply; bf16 pairs only where queries, keys and values are bf16."""
    narrow = workload["act"].kind == "bf16" and workload["kvcache"].kind == "bf16"
    return ("bf16", "f32") if narrow and DOTS_BF16 in cpu.features(device) else ("f32",)


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
        Parameter("tile_vectors", (1, 2, 4)),
        Parameter("degree", (4, 5, 6) if workload["act"].kind == "bf16" else (5, 6)),
        Parameter("prefetch", (0, 4, 8, 16)),
        Parameter("threads", _threads(device)),
    )
    least = parameters[3].choices[0]
    constraints = [
        Constraint(f"tile_rows * tile_vectors <= {_sums(device)}", "sums in registers"),
        Constraint(f"algorithm == 'tiles' or (block == {least} and tile_rows <= 8)", "all queries share a chunk"),
        Constraint("algorithm == 'split' or prefetch == 0", "tiles are read from packed copies"),
        Constraint("algorithm == 'split' or block % tile_rows == 0", "a block is made of whole register tiles"),
    ]
    if workload["dim"] % 2 and "bf16" in dots:
        constraints.append(Constraint("algorithm == 'split' or dot == 'f32'", "packed pairs need an even dim"))
    if width * 4 > _CHUNKS[0]:
        constraints.append(Constraint(f"algorithm == 'split' or chunk % (tile_vectors * {width}) == 0", "whole panels"))
    return Space(parameters, constraints, VERSION)


def default(workload: Workload, device: Device) -> Schedule:
    """Few queries: split the keys into chunks that fit in the L1 cache. Many: the largest register tile."""
    rows = _rows(workload)
    choices = {parameter.name: parameter.choices for parameter in space(workload, device).parameters}
    dots = choices["dot"]
    algorithm = "split" if rows <= _FEW else "tiles"
    wide = _sums(device) // 6
    if algorithm == "split":
        tile_rows = max(int(r) for r in choices["tile_rows"] if int(r) <= 4)
        block = choices["block"][0]
    else:
        tile_rows, block = 6, max(int(b) for b in choices["block"] if int(b) <= 96 and int(b) % 6 == 0)
    return Schedule.of(
        algorithm=algorithm,
        dot="f32" if algorithm == "tiles" and workload["dim"] % 2 else dots[0],
        chunk=max(int(c) for c in choices["chunk"] if int(c) <= 256),
        block=block,
        tile_rows=tile_rows,
        tile_vectors=wide,
        degree=choices["degree"][0],
        prefetch=0,
        threads=cpu.threads(device),
    )


def _rows(workload: Workload) -> int:
    """Queries that share their keys."""
    return int(workload["heads"] // workload["kv_heads"] * workload["q"])


def _algorithms(rows: int) -> tuple[str, ...]:
    if rows < _BLOCKS[0]:
        return ("split",)
    return ("split", "tiles") if rows <= _MOST_SPLIT else ("tiles",)


def _sums(device: Device) -> int:
    """Vectors of sums that leave registers for the factors."""
    return 24 if cpu.vector_bits(device) == 512 else 12


def _threads(device: Device) -> tuple[int, ...]:
    limit = cpu.threads(device)
    return tuple(sorted({limit, *(1 << i for i in range(limit.bit_length()))}))


def features(candidate: Candidate) -> Mapping[str, float]:
    plan = Plan.of(candidate.workload, candidate.schedule, candidate.device)
    return {"log_chunk": math.log2(plan.chunk)}
