"""Attention workloads on the systolic device; the model is in ``flash``, the execution in ``walker``."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fettle.backends.api import Bound, Constraint, Parameter, Schedule, Simulation, Space, Value
from fettle.backends.npu.family import Call, Family
from fettle.backends.npu.systolic.flash import GENERATED, LOADED, MappedAttention, Shape
from fettle.backends.npu.systolic.hardware import MAC, Systolic
from fettle.backends.npu.systolic.scratchpad import SUM_BYTES
from fettle.backends.npu.systolic.walker import attend
from fettle.graph.errors import Unsupported
from fettle.graph.operators.attention import is_usual
from fettle.graph.workload import Workload


class AttentionFamily(Family):
    """Walks over the keys, sizes of blocks and tiles, and where masks come from."""

    def unsupported(self, workload: Workload, hardware: Systolic) -> str:
        if hardware.pe != MAC:
            return "attention is mapped on arrays of pe=mac"
        if not is_usual(workload.values):
            return "neither masks as operands nor scales other than 1 / √dim"
        return "" if workload["kvcache"].group is None else "the npu maps attention over caches that are not quantised"

    def space(self, workload: Workload, hardware: Systolic) -> Space:
        s = Shape.of(workload)
        masks = (GENERATED, LOADED) if s.causal and s.queries > 1 else (GENERATED,)
        parameters = (
            Parameter("passes", (1, 2, 3)),
            Parameter("block_q", sizes(s.rows)),
            Parameter("tile_kv", sizes(s.kv)),
            Parameter("block_kv", sizes(s.kv)),
            Parameter("mask", masks),
            Parameter("buffers", (1, 2)),
        )
        tiles = f"{s.dim} * (block_q * {s.query_bytes} + 2 * buffers * tile_kv * {s.cache_bytes})"
        sums = f"{SUM_BYTES} * block_q * ({s.dim} + 2 * block_kv)"
        fit = Constraint(f"{tiles} + {sums} <= {hardware.sram_bytes}", "tiles fit the scratchpad")
        return Space(parameters, (Constraint("block_kv <= tile_kv"), fit))

    def textbook(self, workload: Workload, hardware: Systolic, given: Mapping[str, Value]) -> dict[str, Value]:
        """One walk (FlashAttention's), blocks of the array's size, tiles of one block.

        Raises:
            Unsupported: they do not fit the scratchpad.
        """
        s = Shape.of(workload)
        rows = max(b for b in sizes(s.rows) if b <= max(hardware.rows, sizes(s.rows)[0]))
        keys = max(b for b in sizes(s.kv) if b <= max(hardware.cols, sizes(s.kv)[0]))
        need = s.dim * (rows * s.query_bytes + 4 * keys * s.cache_bytes) + SUM_BYTES * rows * (s.dim + 2 * keys)
        if need > hardware.sram_bytes and not given:
            raise Unsupported(f"attention needs a scratchpad of {need} bytes", hint="give the device more sram")
        return {
            "passes": 1,
            "block_q": rows,
            "tile_kv": keys,
            "block_kv": keys,
            "mask": GENERATED,
            "buffers": 2,
        }

    def simulate(
        self, workload: Workload, hardware: Systolic, schedule: Schedule, *, trace: bool = False
    ) -> Simulation:
        return MappedAttention(Shape.of(workload), hardware, schedule).simulation(trace=trace)

    def compute(self, workload: Workload, hardware: Systolic, schedule: Schedule, call: Call) -> None:
        s = Shape.of(workload)
        mapped = MappedAttention(s, hardware, schedule)
        q, k, v = (np.asarray(x, np.float32) for x in call.inputs)
        rows = q.reshape(s.problems, s.rows, s.dim)  # heads of one group are neighbours
        keys, values = k.reshape(s.problems, s.kv, s.dim), v.reshape(s.problems, s.kv, s.dim)
        results = call.out.reshape(s.problems, s.rows, s.dim)
        for problem in range(s.problems):
            results[problem] = attend(mapped, rows[problem], keys[problem], values[problem]).astype(call.out.dtype)

    def bound(self, workload: Workload, hardware: Systolic) -> Bound:
        """All elements busy in every cycle, or every operand moved once."""
        compute = workload.flops / 2 / (hardware.rows * hardware.cols * hardware.arrays)
        moved = workload.nbytes / hardware.bandwidth
        return Bound(hardware.seconds(1) * max(compute, moved), "peak:macs" if compute >= moved else "read:dram")

    def features(self, workload: Workload, hardware: Systolic, schedule: Schedule) -> Mapping[str, float]:
        mapped = MappedAttention(Shape.of(workload), hardware, schedule)
        work, operations, _, loaded, spilled, result = (float(x) for x in mapped.costs.sum(axis=0))
        vector, moved = operations / hardware.vector, (loaded + spilled + result) / hardware.bandwidth
        return {"array": np.log1p(work), "vector": np.log1p(vector), "moved": np.log1p(moved)}


def sizes(extent: int) -> tuple[int, ...]:
    """Powers of two from 16, and the extent itself."""
    return tuple(sorted({1 << i for i in range(4, 13) if 1 << i < extent} | {extent}))
