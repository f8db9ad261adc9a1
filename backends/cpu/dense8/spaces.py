"""What the family makes, its schedules, and the untuned one."""

from __future__ import annotations

import itertools

from fettle.backends.api import Constraint, Device, Parameter, Schedule, Space, Support
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu import pages
from fettle.backends.cpu.dense8.plan import Plan
from fettle.backends.spaces import is_valid
from fettle.graph.operators.codes import CODES
from fettle.graph.workload import Workload

VERSION = "dense8-2"

_MAX_ELEMENTS = 2**30
"""Of an operand: index arithmetic in the kernels is 32 bits wide."""

_LATENCY = 4
"""Dot products in flight that keep a unit with a latency of four cycles busy."""


def supports(workload: Workload, device: Device) -> Support:
    """One product of codes with a constant weight."""
    if workload["act"].kind not in CODES or workload["weight"] is None or workload["batch"] != 1:
        return Support.no("multiplies codes of 8 bits by a constant weight, without a batch")
    if max(t.size for t in (*workload.operands, workload.result)) > _MAX_ELEMENTS:
        return Support.no("an operand has more than 2^30 elements")
    return Support.yes()


def space(workload: Workload, device: Device) -> Space:
    """Every schedule worth trying."""
    m, n = workload["m"], workload["n"]
    lanes = cpu.vector_bits(device) // 32
    registers = 32 if lanes == 16 else 16
    return Space(
        (
            Parameter("rows", tuple(r for r in (1, 2, 3, 4, 6, 8, 12) if r == 1 or r <= m)),
            Parameter("columns", tuple(v * lanes for v in (1, 2, 3, 4, 6, 8) if v == 1 or (v - 1) * lanes < n)),
            Parameter("tile", (1, 2, 4, 8)),
            Parameter("threads", cpu.thread_counts(device)),
            Parameter.categorical("pages", pages.choices([workload["n"] * workload["k"]])),
        ),
        (
            Constraint(
                f"(rows + 1) * columns + {lanes} <= {registers * lanes}", "the register tile fits in the registers"
            ),
            Constraint(f"tile == 1 or (tile - 1) * columns < {n}", "a task has panels to work on"),
            Constraint(f"threads == 1 or (threads - 1) * tile * columns < {n}", "every thread has a task"),
        ),
        version=VERSION,
    )


def default(workload: Workload, device: Device) -> Schedule:
    """The fewest instructions of the busiest thread, among tiles that hide the latency of adding if any does; then the
    widest panels."""
    points = space(workload, device)
    choices = points.choices
    found = []
    for rows, columns, threads in itertools.product(*(choices[name] for name in ("rows", "columns", "threads"))):
        schedule = Schedule.of(rows=rows, columns=columns, tile=1, threads=threads, pages="system")
        if is_valid(points, schedule):
            plan = Plan.of(workload, schedule, device)
            waits = max(1.0, _LATENCY / (plan.rows * plan.vectors))
            found.append((plan.instructions * waits, -plan.panel, schedule))
    return min(found, key=lambda point: point[:2])[2]
