"""The kernel family ``prepare``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

from fettle.backends.api import Candidate
from fettle.backends.cpu.family import Family, Lowered, Spaces
from fettle.backends.cpu.gemv.spaces import converts_half
from fettle.backends.cpu.prepare import spaces


class Prepare(Family):
    """Codes and tables as the products of the families ``gemv`` and ``gemm`` make them for themselves, bit by bit."""

    name: ClassVar[str] = "prepare"
    operators: ClassVar[tuple[str, ...]] = ("quantize",)
    spaces: ClassVar[Spaces] = spaces

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
