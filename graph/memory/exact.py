"""The planner's fallback: rectangles of fixed times and free offsets, packed by OR-Tools CP-SAT."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from fettle.graph.memory.buffers import Buffer
from fettle.graph.solver import cp_solver


def solve(buffers: Sequence[Buffer], capacity: int, seconds: float) -> dict[str, int] | None:
    """Offsets that fit the capacity; None if there are none, or none was found in time."""
    from ortools.sat.python import cp_model

    unit = math.gcd(*(b.size for b in buffers))  # pushed down, every offset is a sum of sizes
    ends = {b.lower for b in buffers} | {b.upper for b in buffers}
    moments = {moment: at for at, moment in enumerate(sorted(ends))}
    model = cp_model.CpModel()
    offsets, times, spans = {}, [], []
    for buffer in buffers:
        size, begin, end = buffer.size // unit, moments[buffer.lower], moments[buffer.upper]
        if size > capacity // unit:
            return None
        offset = model.new_int_var(0, capacity // unit - size, buffer.id)
        offsets[buffer.id] = offset
        times.append(model.new_fixed_size_interval_var(begin, end - begin, ""))
        spans.append(model.new_fixed_size_interval_var(offset, size, ""))
    model.add_no_overlap_2d(times, spans)
    workers = max(4, len(os.sched_getaffinity(0)))  # its strategies differ; fewer miss instances
    solver = cp_solver(workers=workers, seconds=seconds)
    solver.parameters.use_timetabling_in_no_overlap_2d = True
    solver.solve(model)
    if solver.status_name() not in ("OPTIMAL", "FEASIBLE"):
        return None
    return {name: unit * solver.value(offset) for name, offset in offsets.items()}
