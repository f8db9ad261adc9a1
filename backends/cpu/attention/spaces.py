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
    kv = workload["kv"]
    rows = workload["heads"] // workload["kv_heads"] * workload["q"]
    parameters = (
        Parameter.categorical("algorithm", ("split",)),
        Parameter.categorical("dot", _dots(workload, device)),
        Parameter("chunk", tuple(c for c in _CHUNKS if c < 2 * kv) or _CHUNKS[:1]),
        Parameter("block", (1,)),
        Parameter("tile_rows", tuple(r for r in (1, 2, 3, 4, 6, 8) if r <= rows)),
        Parameter("tile_vectors", (1, 2, 4)),
        Parameter("degree", (4, 5, 6) if workload["act"].kind == "bf16" else (5, 6)),
        Parameter("prefetch", (0, 4, 8, 16)),
        Parameter("threads", _threads(device)),
    )
    constraints = (Constraint("tile_rows * tile_vectors <= 24", "sums in registers"),)
    return Space(parameters, constraints, VERSION)


def default(workload: Workload, device: Device) -> Schedule:
    choices = {parameter.name: parameter.choices for parameter in space(workload, device).parameters}
    return Schedule.of(
        algorithm="split",
        dot=choices["dot"][0],
        chunk=max(int(c) for c in choices["chunk"] if int(c) <= 256),
        block=1,
        tile_rows=max(int(r) for r in choices["tile_rows"] if int(r) <= 4),
        tile_vectors=4 if cpu.vector_bits(device) == 512 else 2,
        degree=5,
        prefetch=0,
        threads=cpu.threads(device),
    )


def _threads(device: Device) -> tuple[int, ...]:
    limit = cpu.threads(device)
    return tuple(sorted({limit, *(1 << i for i in range(limit.bit_length()))}))


def features(candidate: Candidate) -> Mapping[str, float]:
    plan = Plan.of(candidate.workload, candidate.schedule, candidate.device)
    return {"log_chunk": math.log2(plan.chunk)}
