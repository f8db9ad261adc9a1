"""The kernel family ``dense``: what its parameters mean."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from fettle.backends.api import Candidate, Schedule
from fettle.backends.cpu.dense import layouts, spaces
from fettle.backends.cpu.dense.geometry import Geometry, depth_of, pairs_of
from fettle.backends.cpu.family import Family, Lowered, Spaces
from fettle.backends.cpu.pages import placed
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload


class Dense(Family):
    """``y = x · W`` in f32 or bf16 with a constant weight (packed untimed) or a dynamic rhs (packing timed).

    Parameters of a schedule:

    * ``micro_m``, ``micro_n``: register tile; ``tile_m`` micro rows by ``tile_n`` panels make one task, ``tile_k``
      is the block of k between reads and writes of y; ``unroll_k`` steps of k per iteration.
    * ``order``: whether consecutive tasks (a thread's share) walk along ``rows`` or ``columns`` of y slowest;
      ``inner``: whether a task's innermost loop is over micro ``rows`` (panel stays in L1) or ``panels``.
    * ``copy_x``: copy the task's x tile to consecutive memory first.
    * ``prefetch``: steps of k by which W is prefetched, 0 for none.
    * ``multiply`` (bf16 only): ``pairs`` of bfloat16 by one instruction, ``tiles`` of them, or ``single`` numbers
      in f32.
    * ``rhs`` (dynamic only): ``packed`` into panels first, packed in ``blocks`` (each task packs the panels of its
      tile, one block of k at a time, and finds them in its caches), or read ``direct``.
    * ``pages`` (constant only) of the packed weight: what the ``system`` gives, or ``huge`` ones.
    * ``threads``.
    """

    name: ClassVar[str] = "dense"
    operators: ClassVar[tuple[str, ...]] = ("matmul",)
    spaces: ClassVar[Spaces] = spaces

    def lower(self, candidate: Candidate) -> Lowered:
        from fettle.backends.cpu.dense.kernel import emit

        workload, device = candidate.workload, candidate.device
        geometry = Geometry.of(workload, candidate.schedule, device)
        return Lowered(emit(geometry, device), _needed(geometry), self.weight_layout(workload, candidate.schedule))

    def weight_layout(self, workload: Workload, schedule: Schedule) -> str:
        if workload["weight"] is None:
            return ""
        return layouts.name(schedule["micro_n"], pairs_of(schedule), depth_of(schedule), workload["k"])

    def pack(self, workload: Workload, schedule: Schedule, constants: Sequence[Operand]) -> tuple[np.ndarray, ...]:
        """Panels of the weight, then the rows of the epilogue as they are."""
        if workload["weight"] is None:
            return tuple(np.ascontiguousarray(c) for c in constants)
        values, (weight, *rows) = workload.values, constants
        shaped = np.ascontiguousarray(weight).reshape(values["batch"], values["k"], values["n"])
        panels = layouts.pack(shaped, schedule["micro_n"], pairs_of(schedule), depth_of(schedule))
        return placed([panels, *map(np.ascontiguousarray, rows)], str(schedule.get("pages", "system")))

    def features(self, candidate: Candidate) -> Mapping[str, float]:
        g = Geometry.of(candidate.workload, candidate.schedule, candidate.device)
        words = {
            "x_tile": g.tile_m * g.micro_m * g.block,
            "w_tile": g.tile_n * g.micro_n * g.block,
            "y_tile": g.tile_m * g.micro_m * g.tile_n * g.micro_n,
            "panel": g.block * g.micro_n,
            "x_strip": g.block * g.micro_m,
        }
        busy = math.ceil(g.tasks / g.threads) * g.threads
        return {
            **{f"log_{name}_bytes": math.log2(4 * count) for name, count in words.items()},
            "accumulators": float(g.micro_m * g.vectors),
            "fma_per_load": g.micro_m * g.vectors / (g.micro_m + g.vectors),
            "log_tasks": math.log2(g.tasks),
            "balance": g.tasks / busy,
            "row_waste": g.micro_rows * g.micro_m / g.m,
            "column_waste": g.panels * g.micro_n / g.n,
            "k_blocks": float(g.k_blocks),
            "unroll_k": float(g.unroll_k),
            "prefetch": float(g.prefetch),
            "log_threads": math.log2(g.threads),
            "rows_outside": float(g.rows_outside),
            "rows_inside": float(g.rows_inside),
            "copies_x": float(g.copies_x),
            "pairs": float(g.pairs),
            "tiles": float(g.has_tiles),
            "huge_pages": float(candidate.schedule.get("pages") == "huge"),
            "packs_rhs": float(g.rhs == "packed"),
            "packs_blocks": float(g.rhs == "blocks"),
            "reads_rhs": float(g.rhs == "direct"),
        }


def _needed(geometry: Geometry) -> tuple[str, ...]:
    """Features of the processor that the multiplications of a kernel need."""
    if geometry.has_tiles:
        return ("amx-bf16", "amx-tile")
    return ("avx512bf16",) if geometry.pairs == 2 else ()
