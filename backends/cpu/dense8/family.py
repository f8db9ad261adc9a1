"""The kernel family ``dense8``: what its parameters mean."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from fettle.backends.api import Candidate, Schedule
from fettle.backends.cpu.dense8 import spaces
from fettle.backends.cpu.dense8.plan import Plan
from fettle.backends.cpu.family import Family, Lowered, Spaces
from fettle.backends.cpu.integers.words import WORD
from fettle.backends.cpu.pages import placed
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload


class Dense8(Family):
    """Products of 8-bit codes with a constant weight.

    Parameters of a schedule:

    * ``rows`` of x by a panel of ``columns`` make a register tile.
    * ``tile`` panels make a task.
    * ``threads``.
    * ``pages`` of the packed weight: what the ``system`` gives, or ``huge`` ones.
    """

    name: ClassVar[str] = "dense8"
    operators: ClassVar[tuple[str, ...]] = ("matmul",)
    spaces: ClassVar[Spaces] = spaces

    def lower(self, candidate: Candidate) -> Lowered:
        from fettle.backends.cpu.dense8.kernel import emit

        plan = Plan.of(candidate.workload, candidate.schedule, candidate.device)
        return Lowered(emit(plan, candidate.device), (), self.weight_layout(candidate.workload, candidate.schedule))

    def weight_layout(self, workload: Workload, schedule: Schedule) -> str:
        return f"words-n{schedule['columns']}-i8:1"

    def pack(self, workload: Workload, schedule: Schedule, constants: Sequence[Operand]) -> tuple[np.ndarray, ...]:
        """``[K, N]`` to bytes ``[panels, words, columns · 4]``, four of K to a column; sums of columns, and the rows.

        Zeros fill panels and words.
        """
        weight, *rows = (np.asarray(c) for c in constants)
        (k, n), columns = weight.shape, schedule["columns"]
        panels, words = math.ceil(n / columns), math.ceil(k / WORD)
        padded = np.zeros((words * WORD, panels * columns), np.int8)
        padded[:k, :n] = weight
        packed = padded.reshape(words, WORD, panels, columns).transpose(2, 0, 3, 1).reshape(panels, words, -1)
        sums = padded.sum(axis=0, dtype=np.int32)
        padded_rows = [np.pad(row, (0, panels * columns - n)) for row in rows]
        return placed([np.ascontiguousarray(packed), sums, *padded_rows], str(schedule.get("pages", "system")))

    def features(self, candidate: Candidate) -> Mapping[str, float]:
        plan = Plan.of(candidate.workload, candidate.schedule, candidate.device)
        return {
            "log_panel_bytes": math.log2(plan.words * WORD * plan.panel),
            "log_x_bytes": math.log2(plan.rows * plan.words * WORD),
            "accumulators": float(plan.rows * plan.vectors),
            "dots_per_load": plan.rows * plan.vectors / (plan.rows + plan.vectors),
            "log_instructions": math.log2(plan.instructions),
            "row_waste": plan.row_tiles * plan.rows / plan.m,
            "column_waste": plan.panels * plan.panel / plan.n,
            "log_tasks": math.log2(plan.tiles),
            "log_threads": math.log2(plan.threads),
            "huge_pages": float(candidate.schedule.get("pages") == "huge"),
        }
