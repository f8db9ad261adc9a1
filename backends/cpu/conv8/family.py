"""The kernel family ``conv8``: what its parameters mean."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from fettle.backends.api import Candidate, Schedule
from fettle.backends.cpu.conv8 import spaces
from fettle.backends.cpu.conv8.plan import Plan
from fettle.backends.cpu.family import Family, Lowered, Spaces
from fettle.backends.cpu.integers.words import WORD
from fettle.backends.cpu.pages import placed
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload


class Conv8(Family):
    """Convolution of NCHW tensors of 8-bit codes, by dot products of four codes.

    Parameters of a schedule:

    * ``micro_oc`` output channels by ``vectors`` of output elements make a register tile.
    * ``tile_h`` output rows, ``tile_oc`` panels of channels make a task.
    * ``inner``: whether a task's innermost loop is over panels of ``weights`` or along the ``inputs``.
    * ``threads``.
    * ``pages`` of the packed filters: what the ``system`` gives, or ``huge`` ones.
    """

    name: ClassVar[str] = "conv8"
    operators: ClassVar[tuple[str, ...]] = ("conv2d",)
    spaces: ClassVar[Spaces] = spaces

    def lower(self, candidate: Candidate) -> Lowered:
        from fettle.backends.cpu.conv8.kernel import emit

        plan = Plan.of(candidate.workload, candidate.schedule, candidate.device)
        layout = self.weight_layout(candidate.workload, candidate.schedule)
        return Lowered(emit(plan, candidate.device), (), layout)

    def weight_layout(self, workload: Workload, schedule: Schedule) -> str:
        return f"filters-o{schedule['micro_oc']}-i8:1"

    def pack(self, workload: Workload, schedule: Schedule, constants: Sequence[Operand]) -> tuple[np.ndarray, ...]:
        """``[OC, C, KH, KW]`` to words of four channels ``[panels, words, KH·KW, micro_oc]``, or where a group has one
        channel to words of four rows ``[panels, words, KW, micro_oc]``; the sums of all weights of each output channel,
        and the rows.

        A group of g channels has ceil(g / micro_oc) panels. Zeros fill panels and words.
        """
        weight, *rows = (np.asarray(c) for c in constants)
        micro_oc, (_, c, kh, kw), group = schedule["micro_oc"], weight.shape, workload["group"]
        oc = workload["oc"] // group
        panels = math.ceil(oc / micro_oc)
        taps = weight.reshape(group, oc, kh, 1, kw) if c == 1 else weight.reshape(group, oc, c, kh, kw)
        words = math.ceil(taps.shape[2] / WORD)
        padded = np.zeros((group, panels * micro_oc, words * WORD, *taps.shape[3:]), np.int8)
        padded[:, :oc, : taps.shape[2]] = taps
        shaped = padded.reshape(group * panels, micro_oc, words, WORD, -1).transpose(0, 2, 4, 1, 3)
        packed = np.ascontiguousarray(shaped).view("<i4")[..., 0]
        sums = weight.reshape(workload["oc"], -1).sum(axis=1, dtype=np.int32)
        return placed([packed, sums, *map(np.ascontiguousarray, rows)], str(schedule.get("pages", "system")))

    def features(self, candidate: Candidate) -> Mapping[str, float]:
        plan = Plan.of(candidate.workload, candidate.schedule, candidate.device)
        g = plan.grid
        words = {
            "input": g.input_size,
            "panel": g.c * g.taps * g.micro_oc,
            "weights": g.tile_oc * g.c * g.taps * g.micro_oc,
        }
        return {
            **{f"log_{name}_bytes": math.log2(WORD * count) for name, count in words.items()},
            "accumulators": float(g.micro_oc * g.vectors),
            "dots_per_load": g.micro_oc * g.vectors / (g.micro_oc + g.vectors),
            "log_instructions": math.log2(plan.instructions),
            "efficiency": g.efficiency,
            "halo": g.plane_rows / g.tile_h,
            "log_tasks": math.log2(g.tasks),
            "log_threads": math.log2(g.threads),
            "weights_inside": float(g.weights_inside),
            "huge_pages": float(candidate.schedule.get("pages") == "huge"),
            "by_rows": float(plan.by_rows),
        }
