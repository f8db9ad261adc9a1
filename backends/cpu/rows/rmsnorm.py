"""RMS normalisation kernels: per row Σx², then y = x · weight / √(Σx²/cols + eps).

Rows whose sum of squares leaves the safe range of float32 (huge or tiny values, NaN) are computed again in
float64; the check costs one comparison per row.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from fettle.backends.api import Candidate
from fettle.backends.cpu.rows.arrays import function
from fettle.backends.cpu.rows.loops import for_each_row, sweep, write_rows
from fettle.backends.cpu.rows.streaming import streaming
from fettle.backends.cpu.rows.vectors import Registers, Vectors

_LARGEST_SUM = 2.0**126
_SMALLEST_MEAN = 2.0**-100


def lower(candidate: Candidate) -> Any:
    """TensorIR of an rmsnorm candidate."""
    rows, cols = candidate.workload["rows"], candidate.workload["cols"]
    shapes = [("x", (rows, cols)), ("weight", (cols,)), ("y", (rows, cols))]
    return function(shapes, partial(_body, candidate), str(candidate.workload["act"]))


def _body(candidate: Candidate, x: Any, weight: Any, y: Any) -> None:
    v = Vectors(candidate.device, str(candidate.workload["act"]))
    schedule, workload = candidate.schedule, candidate.workload
    rows, cols, eps = workload["rows"], workload["cols"], workload["eps"]
    unroll, block, streams = schedule["unroll"], schedule["row_block"], schedule["stream"]

    def task(first: Any) -> None:
        squares = Registers(v, unroll * block, 0.0)

        def square(row: int, offset: Any, slot: int, mask: Any) -> None:
            register = slot * block + row
            value = v.load(x, [first + row, offset], mask)
            squares[register] = v.multiply_add(value, value, squares[register])

        sweep(v, cols, unroll, for_each_row(block, square))
        sums = [squares.reduce(lambda a, b: a + b, range(row, unroll * block, block)) for row in range(block)]
        means = [v.let(total / T.float32(cols) + T.float32(eps)) for total in sums]
        scales = [v.spread(T.float32(1) / tirx.sqrt(mean)) for mean in means]

        def result(row: int, offset: Any, mask: Any) -> Any:
            return v.load(x, [first + row, offset], mask) * scales[row] * v.load(weight, [offset], mask)

        write_rows(v, y, first, block, result, unroll=unroll, streams=streams)
        for row in range(block):
            safe = T.And(sums[row] <= T.float32(_LARGEST_SUM), means[row] >= T.float32(_SMALLEST_MEAN))
            with T.If(T.Not(safe)), T.Then():
                _wide_row(v, x, weight, y, first + row, cols, eps)

    with streaming(v, y, streams), v.tasks(rows // block, schedule["threads"]) as index:
        task(v.let(index * block))


def _wide_row(v: Vectors, x: Any, weight: Any, y: Any, row: Any, cols: int, eps: float) -> None:
    """One row in float64, one value at a time."""
    total = T.alloc_buffer((1,), "float64")
    T.buffer_store(total, T.float64(0), [0])
    with T.serial(T.int64(0), T.int64(cols)) as col:
        value = v.load_one(x, [row, col])
        T.buffer_store(total, total[0] + value * value, [0])
    T.buffer_store(total, T.float64(1) / tirx.sqrt(total[0] / T.float64(cols) + T.float64(eps)), [0])
    with T.serial(T.int64(0), T.int64(cols)) as col:
        v.store_one(y, [row, col], v.load_one(x, [row, col]) * total[0] * v.load_one(weight, [col]))
