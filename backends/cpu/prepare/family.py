"""The kernel family ``prepare``.

===========  ============================================================
``unroll``   vectors of a step, each with a maximum of its own
``threads``  threads that share the (row, group) pairs
===========  ============================================================
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

from fettle.backends.api import Candidate, Constraint, Device, Parameter, Schedule, Space, Support
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.family import Family, Lowered
from fettle.backends.cpu.gemv.spaces import converts_half
from fettle.graph.workload import Workload

VERSION = "prepare-1"

_LANES = 16
_UNROLLS = (1, 2, 4, 8)


class Prepare(Family):
    """Codes and tables as the products of the families ``gemv`` and ``gemm`` make them for themselves, bit by bit."""

    name: ClassVar[str] = "prepare"

    def supports(self, workload: Workload, device: Device) -> Support:
        if workload.operator != "quantize":
            return Support.no("only quantize")
        if workload.result.size >= 2**29:
            return Support.no("a result of more than 2^31 bytes")
        return Support.yes()

    def space(self, workload: Workload, device: Device) -> Space:
        vectors = workload["out"].group // _LANES
        pairs = workload["rows"] * workload["out"].groups(workload["cols"])
        parameters = (
            Parameter("unroll", tuple(u for u in _UNROLLS if vectors % u == 0)),
            Parameter("threads", cpu.thread_counts(device)),
        )
        return Space(parameters, (Constraint(f"threads <= {pairs}", "every thread has a group"),), VERSION)

    def default(self, workload: Workload, device: Device) -> Schedule:
        """One thread, which is rarely too few: waking another takes as long as thousands of activations."""
        return Schedule.of(unroll=max(u for u in _UNROLLS if workload["out"].group % (u * _LANES) == 0), threads=1)

    def lower(self, candidate: Candidate) -> Lowered:
        from fettle.backends.cpu.prepare.kernel import kernel

        return Lowered(kernel(candidate.workload, candidate.schedule, converts_half(candidate.device)))

    def features(self, candidate: Candidate) -> Mapping[str, float]:
        workload, schedule = candidate.workload, candidate.schedule
        pairs = workload["rows"] * workload["out"].groups(workload["cols"])
        return {
            "is_tables": float(workload["out"].element == "lut4"),
            "log_group": math.log2(workload["out"].group),
            "log_pairs": math.log2(pairs),
            "log_pairs_of_a_thread": math.log2(pairs / schedule["threads"]),
            "log_unroll": math.log2(schedule["unroll"]),
            "threads": float(schedule["threads"]),
        }
