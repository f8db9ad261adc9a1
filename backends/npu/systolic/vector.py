"""Row by row on the vector unit: softmax, RMS normalisation, elementwise chains.

``tile_rows`` rows at a time come into the scratchpad, the vector unit works on them there (however often it must walk
over them), and the result leaves. Operations are counted as the formulas have them, a function as an exponential.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fettle.backends.api import Bound, Constraint, Parameter, Schedule, Simulation, Space, Value
from fettle.backends.npu.family import Array, Call, Family
from fettle.backends.npu.systolic import timeline
from fettle.backends.npu.systolic import trace as trace_file
from fettle.backends.npu.systolic.cascade import EXP
from fettle.backends.npu.systolic.demands import TRAFFIC, Demands
from fettle.backends.npu.systolic.hardware import Systolic, energy_constants
from fettle.graph.errors import Unsupported
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload

_SIMPLE = frozenset("+-*/") | {"neg", "abs", "min", "max", "relu", "round"}


class VectorFamily(Family):
    """Tiles of whole rows."""

    def unsupported(self, workload: Workload, hardware: Systolic) -> str:
        floats = workload["act"].is_float and workload.result.format.is_float
        return "" if floats else "the vector unit takes floats, not codes"

    def space(self, workload: Workload, hardware: Systolic) -> Space:
        rows, _ = _shape(workload)
        tiles = tuple(sorted({1 << i for i in range(20) if 1 << i < rows} | {rows}))
        need = f"buffers * tile_rows * {_row_bytes(workload)}"
        fit = Constraint(f"{need} <= {hardware.sram_bytes}", "tiles fit the scratchpad")
        return Space((Parameter("tile_rows", tiles), Parameter("buffers", (1, 2))), (fit,))

    def textbook(self, workload: Workload, hardware: Systolic, given: Mapping[str, Value]) -> dict[str, Value]:
        """As many rows as fit twice.

        Raises:
            Unsupported: not even one row does.
        """
        rows, _ = _shape(workload)
        fits = hardware.sram_bytes // (2 * _row_bytes(workload))
        if fits < 1:
            raise Unsupported("a scratchpad does not hold two rows", hint="the device needs more sram")
        return {"tile_rows": rows if rows <= fits else 1 << fits.bit_length() - 1, "buffers": 2}

    def simulate(
        self, workload: Workload, hardware: Systolic, schedule: Schedule, *, trace: bool = False
    ) -> Simulation:
        """Tiles are dealt out to the arrays of a mesh, each with a vector unit and its share of the bandwidth."""
        rows, cols = _shape(workload)
        tile = schedule["tile_rows"]
        heights = np.minimum(tile, rows - np.arange(0, rows, tile))
        result = workload.result.format.bits // 8 * cols
        read, operations = _row_bytes(workload) - result, _operations(workload) // rows
        mine = heights[:: hardware.arrays]
        moved = np.zeros((len(mine), len(TRAFFIC)), np.int64)
        moved[:, TRAFFIC.index("inputs")], moved[:, TRAFFIC.index("results")] = mine * read, mine * result
        demands = Demands.of(moved, -(-mine * operations // hardware.vector))
        buffers = int(schedule["buffers"])
        durations = demands.durations(hardware, hardware.arrays)
        events = np.asarray(timeline.run(durations, 1, hardware.latency, buffers == 2))
        cycles = int(events[:, timeline.STORED].max())
        constants = energy_constants()
        picojoules = rows * operations * constants["vector_operation"]
        picojoules += workload.nbytes * (constants["dram_byte"] + 2 * constants["sram_byte"])
        tops = range(0, rows, tile)[:: hardware.arrays]
        names = [f"rows {top}:{top + height}" for top, height in zip(tops, mine.tolist(), strict=True)]
        return Simulation(
            cycles=cycles,
            seconds=hardware.seconds(cycles),
            schedule=schedule,
            commands=tuple(dict.fromkeys(("load", "compute", "store"), len(heights)).items()),
            dram_bytes=workload.nbytes,
            energy=1e-12 * picojoules,
            counters=(("vector_cycles", int(demands.work.sum())),),
            trace=trace_file.write(demands, events, buffers, names, hardware.arrays) if trace else (),
        )

    def pack(self, workload: Workload, hardware: Systolic, constants: Sequence[Operand]) -> tuple[Array, ...]:
        return tuple(np.asarray(constant, np.float32) for constant in constants)

    def compute(self, workload: Workload, hardware: Systolic, schedule: Schedule, call: Call) -> None:
        shape = _shape(workload)
        views, result = [x.reshape(shape) for x in call.inputs], call.out.reshape(shape)
        for start in range(0, shape[0], schedule["tile_rows"]):
            rows = slice(start, start + schedule["tile_rows"])
            result[rows] = _COMPUTE[workload.operator](workload, [v[rows] for v in views], call.packed).astype(
                call.out.dtype
            )

    def bound(self, workload: Workload, hardware: Systolic) -> Bound:
        """The vector unit busy in every cycle, or every operand moved once."""
        compute = _operations(workload) / (hardware.vector * hardware.arrays)
        moved = workload.nbytes / hardware.bandwidth
        return Bound(hardware.seconds(1) * max(compute, moved), "peak:vector" if compute >= moved else "read:dram")


def _shape(workload: Workload) -> tuple[int, int]:
    """Rows and columns; axes before the last are rows."""
    shape = workload.result.shape
    return math.prod(shape[:-1]), shape[-1]


def _row_bytes(workload: Workload) -> int:
    """A row of every operand that is as large as the result, and of the result."""
    whole = [t for t in workload.operands if t.size == workload.result.size]
    return sum(t.format.bits // 8 for t in (*whole, workload.result)) * workload.result.shape[-1]


def _operations(workload: Workload) -> int:
    """Elementary operations of the vector unit."""
    size = workload.result.size
    if workload.operator == "softmax":
        return size * (4 + EXP)  # compare, subtract, exponential, add, scale
    if workload.operator == "rmsnorm":
        return workload.flops
    count = workload["expr"].fold(lambda _: 0, lambda _: 0, lambda op, *args: sum(args) + (1 if op in _SIMPLE else EXP))
    return int(size * max(count, 1))


def _softmax(workload: Workload, inputs: Sequence[Array], packed: Sequence[Array]) -> Array:
    x = inputs[0].astype(np.float32)
    weights = np.exp(x - x.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _rmsnorm(workload: Workload, inputs: Sequence[Array], packed: Sequence[Array]) -> Array:
    x = inputs[0].astype(np.float32)
    root = np.sqrt((x * x).mean(axis=1, keepdims=True) + np.float32(workload["eps"]))
    return np.asarray(x / root * packed[0])


def _elementwise(workload: Workload, inputs: Sequence[Array], packed: Sequence[Array]) -> Array:
    values, _ = workload["expr"].evaluate_with_bound([x.astype(np.float64) for x in inputs])
    return np.asarray(values)


_COMPUTE: Mapping[str, Any] = {"softmax": _softmax, "rmsnorm": _rmsnorm, "elementwise": _elementwise}
VECTOR_OPERATORS = tuple(_COMPUTE)
