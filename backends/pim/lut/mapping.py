"""Products on the SRAM device: how K, outputs and rows of x are spread, what that costs, and the result."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.backends.api import Constraint, Parameter, Schedule, Simulation, Space, Value
from fettle.backends.pim.lut.model import (
    ACCUMULATE,
    BUILD,
    CONVERT,
    FETCH,
    SCALE,
    Lookups,
    Sram,
    Widths,
    add,
    count,
    indices,
    log2_up,
)
from fettle.backends.pim.lut.program import STORED, Program, Steps, simulate
from fettle.backends.pim.lut.trace import write
from fettle.backends.pim.mapping import Array
from fettle.backends.rounding import ceil_div
from fettle.graph.formats import PER_ROW
from fettle.graph.prepared import PreparedFormat
from fettle.graph.quantized import QuantizedWeight
from fettle.graph.workload import Workload

IN_ARRAYS, ON_HOST = "in_memory", "host"

_SAMPLE_SEED = 0
"""Activations that a simulation without data counts patterns of: those of the correctness gate's kind, seed 0."""


def unsupported(workload: Workload, sram: Sram) -> str:
    """Why a workload cannot be mapped; empty if it can."""
    if workload.operator != "matmul":
        return "tables multiply: only matmul"
    v = workload.values
    weight = v["weight"]
    if weight is None or not weight.is_quantised or weight.is_binary_coded or weight.kind in ("tern", "bip1"):
        return "tables are made of quantised weights with scales, u1 to u8, as in act=bf16 weight=u8:row"
    if isinstance(v["act"], PreparedFormat):
        return "the arrays take activations that nobody has prepared"
    if v["epilogue"] is not None:
        return "the arrays apply no epilogue"
    if v["compute"].kind != "i8":
        return "activations are quantised to 8 bits: compute=i8"
    if weight.group != PER_ROW and weight.group % 4:
        return "scale groups are multiples of 4"
    if min(widths(workload, 2, sram).rows(1), widths(workload, 4, sram).rows(1)) > sram.wordlines:
        return f"a table and an accumulator do not fit {sram.wordlines} wordlines"
    return ""


def widths(workload: Workload, inputs: int, sram: Sram) -> Widths:
    """Bits of everything; weights centred by a stored zero point need one more."""
    weight = workload["weight"]
    group = workload["k"] if weight.group == PER_ROW else min(weight.group, workload["k"])
    return Widths(weight.bits + int(weight.zero_points), inputs, sram.activation_bits, group)


def space(workload: Workload, sram: Sram) -> Space:
    """``inputs`` of a table; ``batch`` rows of x a table serves; ``split_k`` bitlines that share an output; pattern
    reuse; type conversion in the arrays or on the host."""
    batches = tuple(1 << i for i in range(workload["m"].bit_length()))
    lanes = sram.arrays * sram.bitlines
    groups = workload["weight"].groups(workload["k"])
    splits = [s for s in (1, 2, 4, 8, 16, 32) if s == 1 or (s <= groups and s * workload["n"] <= lanes)]
    found = (
        Parameter("inputs", (2, 4)),
        Parameter("batch", batches),
        Parameter("split_k", tuple(splits)),
        Parameter("reuse", (False, True)),
        Parameter("conversion", (IN_ARRAYS, ON_HOST)),
    )
    limits = {i: (sram.wordlines - widths(workload, i, sram).rows(0)) // (widths(workload, i, sram).accumulator + 32)
              for i in (2, 4)}  # fmt: skip
    rule = f"batch <= {limits[2]} if inputs == 2 else batch <= {limits[4]}"
    return Space(found, (Constraint(rule, "accumulators of the rows of x, and the table, fit the wordlines"),))


def textbook(workload: Workload, sram: Sram) -> dict[str, Value]:
    """SAIL's own: tables of 4, all rows of x that fit, pattern reuse, conversion in the arrays."""
    w = widths(workload, 4, sram)
    inputs = 4 if w.rows(1) <= sram.wordlines else 2
    w = widths(workload, inputs, sram)
    most = min((sram.wordlines - w.rows(0)) // (w.accumulator + 32), workload["m"])
    batch = 1 << (most.bit_length() - 1)
    return {"inputs": inputs, "batch": batch, "split_k": 1, "reuse": True, "conversion": IN_ARRAYS}


def quantise(x: Array, group: int, bits: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Codes ``[m, k]`` and scales ``[m, groups]``: symmetric, the largest |x| of a group is the largest code."""
    m, k = x.shape
    groups = ceil_div(k, group)
    padded = np.zeros((m, groups * group))
    padded[:, :k] = x
    parts = padded.reshape(m, groups, group)
    largest = np.abs(parts).max(axis=2)
    scales = np.where(largest > 0, largest, 1.0) / (2 ** (bits - 1) - 1)
    codes = np.rint(parts / scales[:, :, None]).astype(np.int64)
    return codes.reshape(m, -1), scales


@attrs.frozen(eq=False)
class LutKernel:
    """A product under one schedule."""

    workload: Workload
    sram: Sram
    schedule: Schedule

    @property
    def widths(self) -> Widths:
        return widths(self.workload, int(self.schedule["inputs"]), self.sram)

    def pack(self, constants: Sequence[QuantizedWeight]) -> tuple[Array, ...]:
        """Centred weights ``[groups, group, N]`` as floats that hold them exactly, and scales ``[groups, N]``."""
        (weight,) = constants
        n, k = weight.shape
        groups = weight.format.groups(k)
        centred = np.zeros((n, groups * self.widths.group), np.float32)
        centred[:, :k] = weight.centred(dtype=np.float32)
        return centred.reshape(n, groups, -1).transpose(1, 2, 0).copy(), weight.scales.astype(np.float32).T.copy()

    def run(self, inputs: Sequence[Array], packed: Sequence[Array], out: Array) -> None:
        """Build every table, look up every pattern, convert and scale every group's sum.

        Look-ups of one pattern are added as one product with the sum of their ±2^j, which is exact.
        """
        weights, scales = packed
        width, bits = int(self.schedule["inputs"]), self.sram.activation_bits
        groups, group, n = weights.shape
        codes, x_scales = quantise(inputs[0].astype(np.float64), group, bits)
        m = codes.shape[0]
        many, missing = self.widths.tables, self.widths.tables * width - group
        if missing:
            weights = np.pad(weights, ((0, 0), (0, missing), (0, 0)))
        patterns = indices(_whole_tables(codes, self.widths), width, bits).reshape(m, groups, many, bits)
        signs = np.left_shift(1, np.arange(bits)) * np.where(np.arange(bits) == bits - 1, -1, 1)
        chosen = (np.arange(2**width)[:, None] >> np.arange(width) & 1).astype(np.float32)
        result = np.zeros((m, n))
        for g in range(groups):
            tables = chosen @ weights[g].reshape(many, width, n)  # [tables, 2^width, n]
            counts = np.zeros((m, many, 2**width), np.float32)
            for plane in range(bits):
                np.add.at(counts, (*np.indices((m, many)), patterns[:, g, :, plane]), signs[plane])
            sums = counts.reshape(m, -1).astype(np.float64) @ tables.reshape(-1, n).astype(np.float64)
            result += sums * scales[g] * x_scales[:, g : g + 1]
        out[...] = result.reshape(out.shape).astype(out.dtype)

    def report(self, x: Array | None = None) -> Simulation:
        """Cycles for given activations, or for random ones as the correctness gate draws them."""
        return simulate(self._program(self._lookups(x)), self.sram, self.schedule)

    def trace(self) -> tuple[str, ...]:
        """The commands for random activations: for each slice of K batch by batch of rows, scale group by group."""
        lookups = self._lookups(None)
        batches = range(len(lookups.reused))
        phases = [
            [
                (f"batch {b} group {g}", self._steps(lookups, range(b, b + 1), range(g, g + 1)))
                for b in batches
                for g in groups
            ]
            for groups in self._slices
        ]
        return write(self._program(lookups), phases)

    def _lookups(self, x: Array | None) -> Lookups:
        """Look-ups counted from activations ``[m, k]``, by batch of rows and scale group."""
        w = self.widths
        if x is None:
            tensor, rng = self.workload.operands[0], np.random.default_rng(_SAMPLE_SEED)
            x = np.asarray(self.workload.spec.sample(self.workload.values, tensor, rng))
        codes, _ = quantise(x.astype(np.float64), w.group, w.activation)
        patterns = indices(_whole_tables(codes, w), w.inputs, w.activation)
        return count(patterns, int(self.schedule["batch"]), self.sram.patterns).in_groups(w.tables)

    def _program(self, lookups: Lookups) -> Program:
        """Everything, added up over batches and groups."""
        workload, split = self.workload, int(self.schedule["split_k"])
        m, n, k = (int(workload[name]) for name in "mnk")
        x, *weights = (tensor.nbytes for tensor in workload.operands)
        in_arrays = self.schedule["conversion"] == IN_ARRAYS
        return Program(
            widths=self.widths,
            arrays=min(self.sram.arrays, ceil_div(n * split, self.sram.bitlines)),
            batch=int(self.schedule["batch"]),
            moved={"weights": sum(weights), "x": x, STORED: workload.result.nbytes},
            feed=m * k,
            host=0 if in_arrays else m * n * self._groups,
            slices=tuple(self._steps(lookups, range(len(lookups.reused)), groups) for groups in self._slices),
            merge={ACCUMULATE: m * log2_up(split)} if in_arrays and split > 1 else {},
        )

    @property
    def _groups(self) -> int:
        return int(self.workload["weight"].groups(self.workload["k"]))

    @property
    def _slices(self) -> list[range]:
        """Scale groups of each of the bitlines that share an output."""
        split = int(self.schedule["split_k"])
        ends = [self._groups * number // split for number in range(split + 1)]
        return [range(*pair) for pair in itertools.pairwise(ends)]

    def _steps(self, lookups: Lookups, batches: range, groups: range) -> Steps:
        """What a bitline does for some batches of rows and some scale groups.

        Bitlines that have several outputs do it for one after the other.
        """
        part = np.s_[batches.start : batches.stop, groups.start : groups.stop]
        adds = lookups.adds[part].sum(axis=(0, 1)).tolist()
        reused = int(lookups.reused[part].sum()) if self.schedule["reuse"] else 0
        batch = int(self.schedule["batch"])
        rows = min(batches.stop * batch, self.workload["m"]) - batches.start * batch
        steps = {BUILD: len(batches) * len(groups) * self.widths.tables, FETCH: sum(adds) - reused}
        steps |= {add(plane): number for plane, number in enumerate(adds)}
        if self.schedule["conversion"] == IN_ARRAYS:
            steps |= dict.fromkeys((CONVERT, SCALE, ACCUMULATE), rows * len(groups))
        outputs = ceil_div(self.workload["n"] * len(self._slices), self.sram.arrays * self.sram.bitlines)
        return {name: number * outputs for name, number in steps.items() if number}


def _whole_tables(codes: NDArray[np.int64], widths: Widths) -> NDArray[np.int64]:
    """Codes ``[m, groups · group]`` with zeros behind each scale group that does not fill its last table."""
    groups = codes.reshape(len(codes), -1, widths.group)
    missing = widths.tables * widths.inputs - widths.group
    return np.pad(groups, ((0, 0), (0, 0), (0, missing))).reshape(len(codes), -1)
