"""Dense f32 matrix products: a packed, register-tiled kernel family."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from fettle.backends.api import Candidate, Constraint, Device, Parameter, Schedule, Space, Support
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.dense_kernel import Geometry, emit
from fettle.backends.cpu.family import Family, Lowered
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload

_MAX_ELEMENTS = 2**31 - 2**16
"""Index arithmetic in the kernels is 32 bits wide."""


class Dense(Family):
    """``y = x · W`` in f32 with a constant weight (packed untimed) or a dynamic right-hand side (packing timed).

    Parameters of a schedule:

    * ``micro_m``, ``micro_n``: register tile; ``tile_m`` micro rows by ``tile_n`` panels make one task, ``tile_k``
      is the block of k between reads and writes of y; ``unroll_k`` steps of k per iteration.
    * ``order``: whether consecutive tasks (a thread's share) walk along ``rows`` or ``columns`` of y slowest;
      ``inner``: whether a task's innermost loop is over micro ``rows`` (panel stays in L1) or ``panels``.
    * ``copy_x``: copy the task's x tile to consecutive memory first.
    * ``prefetch``: steps of k by which W is prefetched, 0 for none.
    * ``rhs`` (dynamic only): ``packed`` into panels first, or read ``direct``.
    * ``threads``.
    """

    name: ClassVar[str] = "dense"

    def supports(self, workload: Workload, device: Device) -> Support:
        if workload.operator != "matmul":
            return Support.no(f"makes matmul, not {workload.operator}")
        values = workload.values
        for name in ("act", "weight", "rhs", "compute", "out"):
            if values[name] is not None and str(values[name]) != "f32":
                return Support.no(f"computes in f32 throughout, not {name}={values[name]}")
        widest = max(_micro_n(device))
        padded = values["batch"] * values["k"] * math.ceil(values["n"] / widest) * widest
        if max(padded, *(t.size for t in (*workload.operands, workload.result))) > _MAX_ELEMENTS:
            return Support.no("an operand has more than 2^31 elements")
        return Support.yes()

    def space(self, workload: Workload, device: Device) -> Space:
        values = workload.values
        m, n, k = values["m"], values["n"], values["k"]
        lanes = cpu.vector_bits(device) // 32
        registers = 32 if lanes == 16 else 16
        thread_counts = sorted({cpu.threads(device), *(1 << i for i in range(cpu.threads(device).bit_length() - 1))})
        parameters = [
            Parameter("micro_m", tuple(r for r in (1, 2, 3, 4, 6, 8, 10, 12, 14, 16) if r <= max(m, 1))),
            Parameter("micro_n", _micro_n(device)),
            Parameter("tile_m", _up_to(m, (1, 2, 4, 8, 16, 32, 64, 128))),
            Parameter("tile_n", _up_to(math.ceil(n / lanes), (1, 2, 4, 8, 16, 32, 64, 128))),
            Parameter("tile_k", (*(t for t in (64, 128, 256, 512, 1024) if t < k), k)),
            Parameter("unroll_k", tuple(u for u in (1, 2, 4) if u <= k)),
            Parameter.categorical("order", ("rows", "columns")),
            Parameter.categorical("inner", ("rows", "panels")),
            Parameter.categorical("copy_x", (False, True) if m > 1 else (False,)),
            Parameter("prefetch", (0, 4, 16, 64)),
            Parameter("threads", tuple(thread_counts)),
        ]
        constraints = [
            Constraint(
                f"(micro_m + 1) * (micro_n // {lanes}) + {0 if lanes == 16 else 1} <= {registers}",
                "the register tile, one row of W and x must fit in the registers",
            ),
            Constraint(f"tile_m * micro_m < {m} + micro_m * 2 or tile_m == 1", "a tile is not larger than x"),
            Constraint(f"tile_n * micro_n < {n} + micro_n * 2 or tile_n == 1", "a tile is not larger than W"),
        ]
        if values["rhs"] is not None:
            parameters.append(Parameter.categorical("rhs", ("packed", "direct")))
            constraints.append(
                Constraint(f"rhs == 'packed' or {n} % micro_n == 0", "rows of rhs are read in whole register tiles")
            )
        return Space(parameters, constraints, version="dense-1")

    def default(self, workload: Workload, device: Device) -> Schedule:
        values = workload.values
        m, n, k = values["m"], values["n"], values["k"]
        lanes = cpu.vector_bits(device) // 32
        space = self.space(workload, device)
        choices = {p.name: p.choices for p in space.parameters}
        wide = 4 * lanes if m <= 4 else 2 * lanes
        micro_n = max(c for c in choices["micro_n"] if int(c) <= max(lanes, min(wide, n)))
        limit = (32 if lanes == 16 else 15) // (int(micro_n) // lanes) - 1
        micro_m = max(int(c) for c in choices["micro_m"] if int(c) <= min(limit, 8))
        threads = cpu.threads(device)
        per_thread = math.ceil(m / micro_m / threads) if m > 4 * micro_m * threads else math.ceil(m / micro_m)
        tile_m = max(int(c) for c in choices["tile_m"] if int(c) == 1 or int(c) <= min(16, per_thread))
        share = math.ceil(n / int(micro_n) / threads) if per_thread * micro_m >= m else math.ceil(n / int(micro_n))
        tile_n = max(int(c) for c in choices["tile_n"] if int(c) == 1 or int(c) <= min(32, share))
        values_ = {
            "micro_m": micro_m,
            "micro_n": micro_n,
            "tile_m": tile_m,
            "tile_n": tile_n,
            "tile_k": k if m <= 4 else min(k, 256),
            "unroll_k": 1,
            "order": "rows",
            "inner": "rows",
            "copy_x": False,
            "prefetch": 0,
            "threads": threads,
        }
        if "rhs" in choices:
            values_["rhs"] = "packed" if m > 8 or n % int(micro_n) else "direct"
        return Schedule(tuple(values_.items()))

    def lower(self, candidate: Candidate) -> Lowered:
        geometry = Geometry.of(candidate.workload, candidate.schedule, candidate.device)
        return Lowered(emit(geometry), (), self.weight_layout(candidate.workload, candidate.schedule))

    def weight_layout(self, workload: Workload, schedule: Schedule) -> str:
        return "" if workload["weight"] is None else f"panel-n{schedule['micro_n']}-f32:1"

    def pack(self, workload: Workload, schedule: Schedule, constants: Sequence[Operand]) -> tuple[np.ndarray, ...]:
        """``[batch, K, N]`` to panels ``[batch, ceil(N / micro_n), K, micro_n]``, zeros beyond N."""
        if not constants:
            return ()
        values, micro_n = workload.values, schedule["micro_n"]
        batch, n, k = values["batch"], values["n"], values["k"]
        weight = np.asarray(constants[0]).reshape(batch, k, n)
        panels = np.zeros((batch, math.ceil(n / micro_n), k, micro_n), np.float32)
        whole = n // micro_n
        panels[:, :whole] = weight[:, :, : whole * micro_n].reshape(batch, k, whole, micro_n).transpose(0, 2, 1, 3)
        if n % micro_n:
            panels[:, whole, :, : n % micro_n] = weight[:, :, whole * micro_n :]
        return (panels,)

    def features(self, candidate: Candidate) -> Mapping[str, float]:
        g = Geometry.of(candidate.workload, candidate.schedule, candidate.device)
        floats = {
            "x_tile": g.tile_m * g.micro_m * g.tile_k,
            "w_tile": g.tile_n * g.micro_n * g.tile_k,
            "y_tile": g.tile_m * g.micro_m * g.tile_n * g.micro_n,
            "panel": g.tile_k * g.micro_n,
            "x_strip": g.tile_k * g.micro_m,
        }
        busy = math.ceil(g.tasks / g.threads) * g.threads
        return {
            **{f"log_{name}_bytes": math.log2(4 * count) for name, count in floats.items()},
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
            "packs_rhs": float(g.rhs == "packed"),
            "reads_rhs": float(g.rhs == "direct"),
        }


def _micro_n(device: Device) -> tuple[int, ...]:
    """Widths of a register tile: one to eight vectors."""
    lanes = cpu.vector_bits(device) // 32
    return tuple(lanes * count for count in (1, 2, 3, 4, 6, 8))


def _up_to(extent: int, choices: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(c for c in choices if c == 1 or c // 2 < extent)
