"""Computes a product through the steps of its mapping: a scratchpad holds only what the program loaded.

Integer products are exact. Quantised weights meet inputs rounded to 8 bits per row and group (where the workload
computes in i8), and each group's exact sum is scaled; LUT tensor cores look the same sums up in mirrored tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.backends.npu.systolic import folds, program
from fettle.backends.npu.systolic.gemm import Gemm
from fettle.graph.quantized import Operand, QuantizedWeight
from fettle.graph.workload import Workload

Array = NDArray[Any]

_EXACT_BLOCK = 1024
"""Products of 8-bit integers whose sum f32 holds exactly: 1024 · 2^14 = 2^24."""


def pack(workload: Workload, constant: Operand) -> tuple[Array, ...]:
    """A constant right-hand side as arrays ``[k, n]``: values in f32, or codes, scales and zero points."""
    if not isinstance(constant, QuantizedWeight):
        return (np.ascontiguousarray(constant, np.float32),)
    zero = constant.zero_points
    if zero is None:
        zeros = np.full((constant.format.groups(constant.shape[1]), constant.shape[0]), constant.format.zero_point)
    else:
        zeros = zero.T.astype(np.float64)
    return np.ascontiguousarray(constant.codes.T), constant.scales.T.astype(np.float32), zeros


def multiply(gemm: Gemm, workload: Workload, x: Array, packed: Sequence[Array], out: Array) -> None:
    """Run the product ``out = x · w`` on data, batch by batch, array by array."""
    p = gemm.product
    xs = x.reshape(p.batch, p.m, p.k)
    outs = out.reshape(p.batch, p.m, p.n)
    plain = packed[0].reshape(p.batch, p.k, p.n) if len(packed) == 1 else None
    for b in range(p.batch):
        operands = _operands(gemm, workload, xs[b], packed if plain is None else (plain[b],))
        total = np.zeros((p.m, p.n), operands.accumulator)
        for shard in gemm.shards:
            _run(gemm, operands, shard, total)
        outs[b] = np.rint(total) if p.out.kind == "i32" else total.astype(outs.dtype)


@attrs.frozen(eq=False)
class _Operands:
    """Inputs ``[m, k]`` (with scales ``[m, groups]`` if rounded) and weights ``[k, n]`` of one product."""

    x: Array
    x_scales: Array | None
    w: Array
    w_scales: Array | None
    group: int
    codes: NDArray[np.uint8] | None
    zeros: Array | None
    step: float
    bits: int
    exact: bool = False

    @property
    def accumulator(self) -> type[np.floating]:
        """f64 where sums are of integers (exact below 2^53), else f32."""
        return np.float64 if self.exact else np.float32


def _operands(gemm: Gemm, workload: Workload, x: Array, packed: Sequence[Array]) -> _Operands:
    fmt, k = gemm.product.weight, gemm.product.k
    if len(packed) == 1:
        exact = fmt.kind == "i8"
        weights = packed[0].astype(np.float32, copy=False)
        codes = (weights + 128).astype(np.uint8) if exact and gemm.cost.lut else None
        zeros = np.full((1, gemm.product.n), 128.0) if codes is not None else None
        return _Operands(x.astype(np.float32), None, weights, None, k, codes, zeros, 1.0, 8, exact)
    codes, scales, zeros = packed
    group = k if len(scales) == 1 else int(fmt.group or k)
    centred = fmt.step * (codes - np.repeat(zeros, group, axis=0)[:k])
    inputs = x.astype(np.float64)
    if workload["compute"].kind != "i8":
        return _Operands(
            inputs.astype(np.float32), None, centred.astype(np.float32), scales, group, codes, zeros, fmt.step, fmt.bits
        )
    starts = np.arange(0, k, group)
    largest = np.maximum.reduceat(np.abs(inputs), starts, axis=1)
    x_scales = np.where(largest > 0.0, largest / 127.0, 1.0)
    rounded = np.rint(inputs / np.repeat(x_scales, group, axis=1)[:, :k])
    return _Operands(rounded, x_scales, centred, scales, group, codes, zeros, fmt.step, fmt.bits)


def _run(gemm: Gemm, operands: _Operands, shard: slice, total: Array) -> None:
    """One array's program; partial sums that leave the scratchpad live in ``spilled``, as they do in DRAM."""
    offset = [0, 0, 0]
    if gemm.split is not None:
        offset[gemm.split] = shard.start
    held_x: Array = np.empty((0, 0))
    held_w: Array = np.empty((0, 0))
    held_codes: Array | None = None
    sums: Array = np.empty((0, 0))
    spilled: dict[tuple[int, int], Array] = {}
    for step in gemm.steps(shard).tolist():
        m = slice(step[program.M0] + offset[0], step[program.M1] + offset[0])
        n = slice(step[program.N0] + offset[1], step[program.N1] + offset[1])
        k = slice(step[program.K0] + offset[2], step[program.K1] + offset[2])
        if step[program.LOAD_X]:
            held_x = operands.x[m, k]
        if step[program.LOAD_W]:
            held_w = operands.w[k, n]
            held_codes = operands.codes[k, n] if gemm.cost.lut and operands.codes is not None else None
        if step[program.LOAD_Y]:
            sums = spilled.pop((m.start, n.start))
        elif sums.size == 0:
            sums = np.zeros((m.stop - m.start, n.stop - n.start), total.dtype)
        _tile(gemm, operands, held_x, held_w, held_codes, sums, m, n, k)
        if step[program.STORE] == program.PARTIAL:
            spilled[m.start, n.start] = sums
        elif step[program.STORE] == program.RESULT:
            total[m, n] += sums
        if step[program.STORE]:
            sums = np.empty((0, 0))


def _tile(
    gemm: Gemm,
    all_: _Operands,
    x: Array,
    w: Array,
    codes: Array | None,
    sums: Array,
    m: slice,
    n: slice,
    k: slice,
) -> None:
    """Add one tile's product to its sums: by groups that share scales, and by folds of the array along k."""
    block = gemm.cost.row_block if gemm.cost.over_rows == 2 else _EXACT_BLOCK
    start = 0
    while start < x.shape[1]:
        group = (k.start + start) // all_.group
        end = min(x.shape[1], start + block, (group + 1) * all_.group - k.start)
        part = slice(start, end)
        if codes is not None:
            assert all_.zeros is not None
            product = _look_up(
                x[:, part], codes[part], all_.bits, all_.step, all_.zeros[min(group, len(all_.zeros) - 1), n]
            )
        else:
            product = x[:, part] @ w[part]
        if all_.w_scales is not None:
            product = product * all_.w_scales[group, n]
        if all_.x_scales is not None:
            product = product * all_.x_scales[m, group, None]
        sums += product
        start = end


def _look_up(x: Array, codes: NDArray[np.uint8], bits: int, step: float, zeros: Array) -> Array:
    """``step · Σ_k x[m, k] (codes[k, n] - zeros[n])`` by tables of four inputs, one bit of the codes at a time.

    With signs s = 2·bit - 1, a code is ``Σ_b 2^(b-1) s_b + (2^bits - 1) / 2``. The sum of four inputs under any signs
    is an entry of their table, or of its mirror image: entry e has ``+x0`` and the signs e says for x1, x2, x3.
    """
    from fettle.backends.npu.systolic import compiled

    k = -(-x.shape[1] // folds.LUT_K) * folds.LUT_K
    padded = np.zeros((x.shape[0], k))
    padded[:, : x.shape[1]] = x
    filled = np.zeros((k, codes.shape[1]), np.uint8)
    filled[: len(codes)] = codes
    quads = padded.reshape(x.shape[0], -1, folds.LUT_K)
    signs = np.ones((folds.TABLE_ENTRIES, folds.LUT_K))
    signs[:, 1:] = 2 * ((np.arange(folds.TABLE_ENTRIES)[:, None] >> np.arange(folds.LUT_K - 1)) & 1) - 1
    tables = np.ascontiguousarray(quads @ signs.T)
    sums = np.zeros((x.shape[0], codes.shape[1]))
    compiled.sum_tables(tables, filled, bits, sums)
    middle = (2**bits - 1) / 2
    return np.asarray(step * (sums + (middle - zeros) * x.sum(axis=1, keepdims=True)))
