"""Matrix products on the systolic device."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from fettle.backends.api import Bound, Schedule, Simulation, Space, Value
from fettle.backends.npu.family import Array, Call, Family
from fettle.backends.npu.systolic import execute, folds, residency, tiling, timeline
from fettle.backends.npu.systolic import trace as trace_file
from fettle.backends.npu.systolic.demands import TRAFFIC
from fettle.backends.npu.systolic.gemm import Gemm
from fettle.backends.npu.systolic.hardware import Systolic
from fettle.backends.npu.systolic.product import Product, unsupported
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload


class MatmulFamily(Family):
    """Tiles of the product, any dataflow, any order of the loops."""

    def unsupported(self, workload: Workload, hardware: Systolic) -> str:
        return unsupported(workload, hardware)

    def space(self, workload: Workload, hardware: Systolic) -> Space:
        return tiling.space(Product.of(workload), hardware)

    def textbook(self, workload: Workload, hardware: Systolic, given: Mapping[str, Value]) -> dict[str, Value]:
        return tiling.textbook(Product.of(workload), hardware, given)

    def simulate(
        self, workload: Workload, hardware: Systolic, schedule: Schedule, *, trace: bool = False
    ) -> Simulation:
        return simulation(Gemm(Product.of(workload), hardware, schedule), trace=trace)

    def pack(self, workload: Workload, hardware: Systolic, constants: Sequence[Operand]) -> tuple[Array, ...]:
        return execute.pack(workload, constants[0]) if constants else ()

    def compute(self, workload: Workload, hardware: Systolic, schedule: Schedule, call: Call) -> None:
        mapped = Gemm(Product.of(workload), hardware, schedule)
        execute.multiply(mapped, workload, call.inputs[0], call.packed or call.inputs[1:2], call.out)

    def bound(self, workload: Workload, hardware: Systolic) -> Bound:
        """All elements busy in every cycle, or every operand moved once."""
        product = Product.of(workload)
        cost = folds.cost(hardware, folds.OUTPUT, product.weight.bits)
        if cost.lut:
            elements = folds.LUT_M * folds.LUT_N * folds.LUT_K * hardware.units
        else:
            elements = hardware.rows * hardware.cols
        compute = product.macs * cost.rate / (elements * hardware.arrays)
        moved = workload.nbytes / hardware.bandwidth
        seconds = max(compute, moved) / (hardware.clock * 1e6)
        return Bound(seconds, "peak:macs" if compute >= moved else "read:dram")

    def features(self, workload: Workload, hardware: Systolic, schedule: Schedule) -> Mapping[str, float]:
        """Logarithms of work and traffic against what cannot be avoided: the timeline is left to be learned."""
        mapped = Gemm(Product.of(workload), hardware, schedule)
        steps = mapped.steps(mapped.shards[0])
        durations = mapped.durations(steps)
        least = self.bound(workload, hardware).seconds * hardware.clock * 1e6 / mapped.product.batch
        work, loads, stores = (
            math.log(max(int(durations[:, column].sum()), 1) / least)
            for column in (timeline.WORK, timeline.LOAD_TIME, timeline.STORE_TIME)
        )
        return {"work": work, "loads": loads, "stores": stores, "steps": math.log(len(steps))}


def simulation(mapped: Gemm, *, trace: bool = False) -> Simulation:
    """The report of a mapped product."""
    batch, shards = mapped.product.batch, len(mapped.shards)
    steps = mapped.steps(mapped.shards[0])
    moved = dict(zip(TRAFFIC, mapped.dram_traffic.tolist(), strict=True))
    read = dict(zip(residency.OPERANDS, mapped.array_traffic.tolist(), strict=True))
    counters = {
        **{f"dram_{name}": count for name, count in moved.items()},
        **{f"array_{name}": count for name, count in read.items()},
        "compute_cycles": mapped.compute_cycles,
        "array_busy": round((mapped.compute_cycles + 1) / mapped.cycles, 6),
        "scratchpad_bytes": mapped.scratchpad.peak,
    }
    return Simulation(
        cycles=mapped.cycles,
        seconds=mapped.hardware.seconds(mapped.cycles),
        schedule=mapped.schedule,
        commands=mapped.demands(steps).commands(batch * shards),
        dram_bytes=mapped.dram_bytes,
        energy=mapped.energy,
        counters=tuple(counters.items()),
        offsets=tuple(mapped.scratchpad.offsets.items()),
        trace=_lines(mapped, steps) if trace else (),
    )


def _lines(mapped: Gemm, steps: np.ndarray) -> tuple[str, ...]:
    """The commands of the first array."""
    tiles = [f"m {row[0]}:{row[1]} n {row[2]}:{row[3]} k {row[4]}:{row[5]}" for row in steps.tolist()]
    names = [f"batch {batch} {tile}" for batch in range(mapped.product.batch) for tile in tiles]
    buffers, arrays = int(mapped.schedule["buffers"]), len(mapped.shards)
    return trace_file.write(mapped.demands(steps), mapped.events, buffers, names, arrays, mapped.split)
