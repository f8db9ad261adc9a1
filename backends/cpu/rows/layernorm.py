"""Layer normalisation kernels: per row the mean μ, then Σ(x-μ)², then y = (x-μ) · weight / √(Σ/cols + eps) + bias.

Three sweeps over a row that the first leaves in cache; the mean is subtracted before squaring, so that nothing
cancels. Rows whose sums leave the safe range of float32 (huge or tiny values, NaN) are computed again in float64.
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

_LARGEST_SUM = 0x7E800000
"""Bits of 2^126. As whole numbers, the bits of NaN (of infinity less infinity) are larger than those of any float;
TVM may turn a comparison of floats around, which is wrong for NaN."""
_SMALLEST_VARIANCE = 2.0**-100


def lower(candidate: Candidate) -> Any:
    """TensorIR of a layernorm candidate."""
    rows, cols = candidate.workload["rows"], candidate.workload["cols"]
    shapes = [("x", (rows, cols)), ("weight", (cols,)), ("bias", (cols,)), ("y", (rows, cols))]
    return function(shapes, partial(_body, candidate), str(candidate.workload["act"]))


def _body(candidate: Candidate, x: Any, weight: Any, bias: Any, y: Any) -> None:
    schedule, workload = candidate.schedule, candidate.workload
    v = Vectors(candidate.device, str(workload["act"]))
    rows, cols, eps = workload["rows"], workload["cols"], workload["eps"]
    unroll, block, streams = schedule["unroll"], schedule["row_block"], schedule["stream"]

    def total(registers: Registers, row: int) -> Any:
        return registers.reduce(lambda a, b: a + b, range(row, unroll * block, block))

    def task(first: Any) -> None:
        sums, squares = Registers(v, unroll * block, 0.0), Registers(v, unroll * block, 0.0)

        def add(row: int, offset: Any, slot: int, mask: Any) -> None:
            register = slot * block + row
            sums[register] = sums[register] + v.load(x, [first + row, offset], mask)

        sweep(v, cols, unroll, for_each_row(block, add))
        means = [v.spread(total(sums, row) / T.float32(cols)) for row in range(block)]

        def square(row: int, offset: Any, slot: int, mask: Any) -> None:
            register = slot * block + row
            centred = v.let(v.load(x, [first + row, offset], mask) - means[row])
            if mask is not None:
                centred = v.let(v.where(mask, centred, v.constant(0.0)))
            squares[register] = v.multiply_add(centred, centred, squares[register])

        sweep(v, cols, unroll, for_each_row(block, square))
        energies = [v.let(total(squares, row)) for row in range(block)]
        variances = [v.let(energy / T.float32(cols) + T.float32(eps)) for energy in energies]
        scales = [v.spread(T.float32(1) / tirx.sqrt(variance)) for variance in variances]

        def result(row: int, offset: Any, mask: Any) -> Any:
            centred = v.let(v.load(x, [first + row, offset], mask) - means[row])
            scaled = v.let(centred * scales[row])
            return v.let(v.multiply_add(scaled, v.load(weight, [offset], mask), v.load(bias, [offset], mask)))

        write_rows(v, y, first, block, result, unroll=unroll, streams=streams)
        for row in range(block):
            large = T.reinterpret("uint32", energies[row]) > T.uint32(_LARGEST_SUM)
            with T.If(T.Or(large, variances[row] < T.float32(_SMALLEST_VARIANCE))), T.Then():
                _wide_row(v, x, weight, bias, y, first + row, cols, eps)

    with streaming(v, y, streams), v.tasks(rows // block, schedule["threads"]) as index:
        task(v.let(index * block))


def _wide_row(v: Vectors, x: Any, weight: Any, bias: Any, y: Any, row: Any, cols: int, eps: float) -> None:
    """One row in float64, one value at a time."""
    mean, scale = T.alloc_buffer((1,), "float64"), T.alloc_buffer((1,), "float64")
    T.buffer_store(mean, T.float64(0), [0])
    with T.serial(T.int64(0), T.int64(cols)) as col:
        T.buffer_store(mean, mean[0] + v.load_one(x, [row, col]), [0])
    T.buffer_store(mean, mean[0] / T.float64(cols), [0])
    T.buffer_store(scale, T.float64(0), [0])
    with T.serial(T.int64(0), T.int64(cols)) as col:
        centred = T.Bind(v.load_one(x, [row, col]) - mean[0])
        T.buffer_store(scale, scale[0] + centred * centred, [0])
    T.buffer_store(scale, T.float64(1) / tirx.sqrt(scale[0] / T.float64(cols) + T.float64(eps)), [0])
    with T.serial(T.int64(0), T.int64(cols)) as col:
        scaled = (v.load_one(x, [row, col]) - mean[0]) * scale[0]
        v.store_one(y, [row, col], scaled * v.load_one(weight, [col]) + v.load_one(bias, [col]))
