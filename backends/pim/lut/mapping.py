"""Products on the SRAM device: how K, outputs and rows of x are spread, what that costs, and the result."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.backends.api import Constraint, Parameter, Schedule, Simulation, Space, Value
from fettle.backends.pim.lut.model import Lookups, Sram, Widths, count, indices
from fettle.backends.pim.mapping import HOST_ELEMENTS_PER_NS, Array
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
        return "tables are made of quantised weights, u1 to u8"
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
        centred = np.zeros((n, groups * weight.group), np.float32)
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
        patterns = indices(codes, width, bits).reshape(m, groups, group // width, bits)
        signs = np.left_shift(1, np.arange(bits)) * np.where(np.arange(bits) == bits - 1, -1, 1)
        chosen = (np.arange(2**width)[:, None] >> np.arange(width) & 1).astype(np.float32)
        result = np.zeros((m, n))
        for g in range(groups):
            tables = chosen @ weights[g].reshape(group // width, width, n)  # [tables, 2^width, n]
            counts = np.zeros((m, group // width, 2**width), np.float32)
            for plane in range(bits):
                np.add.at(counts, (*np.indices((m, group // width)), patterns[:, g, :, plane]), signs[plane])
            sums = counts.reshape(m, -1).astype(np.float64) @ tables.reshape(-1, n).astype(np.float64)
            result += sums * scales[g] * x_scales[:, g : g + 1]
        out[...] = result.reshape(out.shape).astype(out.dtype)

    def lookups(self, x: Array) -> Lookups:
        """Look-ups counted from activations ``[m, k]``."""
        w = self.widths
        codes, _ = quantise(x.astype(np.float64), w.group, w.activation)
        return count(indices(codes, w.inputs, w.activation), w, int(self.schedule["batch"]), self.sram.patterns)

    def report(self, x: Array | None = None) -> Simulation:
        """Cycles for given activations, or for random ones as the correctness gate draws them."""
        sram, traffic = self.sram, self.workload.nbytes
        lookups = self.lookups(self._sample() if x is None else x)
        reused = lookups.reused if self.schedule["reuse"] else 0
        besides = self._cycles_besides_lookups()
        compute = besides + self._lookup_cycles(lookups, reused)
        loading = traffic / sram.dram_bytes_per_ns / sram.clock_ns
        cycles = int(np.ceil(max(compute, loading)))
        return Simulation(
            cycles=cycles,
            seconds=cycles * sram.clock_ns * 1e-9,
            schedule=self.schedule,
            commands=(
                ("build", self._tables_built),
                ("lookup", lookups.fetches),
                ("reused", reused),
                ("convert", self._conversions),
            ),
            dram_bytes=int(traffic),
            energy=self._joules(compute),
            counters=(
                ("compute_cycles", int(np.ceil(compute))),
                ("load_cycles", int(np.ceil(loading))),
                ("reuse_saving", round(1.0 - compute / (besides + self._lookup_cycles(lookups, 0)), 4)),
            ),
        )

    def _sample(self) -> Array:
        tensor, rng = self.workload.operands[0], np.random.default_rng(_SAMPLE_SEED)
        return np.asarray(self.workload.spec.sample(self.workload.values, tensor, rng))

    @property
    def _split(self) -> int:
        """Bitlines that share an output."""
        return int(self.schedule["split_k"])

    @property
    def _rounds(self) -> int:
        """How often it is a bitline's turn."""
        return ceil_div(self.workload["n"] * self._split, self.sram.arrays * self.sram.bitlines)

    @property
    def _tables_built(self) -> int:
        tables = self._groups * ceil_div(self.widths.group, self.widths.inputs)
        return ceil_div(self.workload["m"], int(self.schedule["batch"])) * tables

    @property
    def _groups(self) -> int:
        return int(self.workload["weight"].groups(self.workload["k"]))

    @property
    def _conversions(self) -> int:
        """Sums of a scale group that each output converts."""
        return self._groups * int(self.workload["m"])

    @property
    def _feed_cycles(self) -> float:
        """Activations on their way to all arrays."""
        return float(self.workload["m"] * self.workload["k"] * self.widths.activation / 8 / self.sram.broadcast_bytes)

    def _lookup_cycles(self, lookups: Lookups, reused: int) -> float:
        work = (lookups.fetches - reused) * self.widths.entry + lookups.adds
        return work * self._rounds / self._split

    def _cycles_besides_lookups(self) -> float:
        """Tables, the sums of bitlines that share an output, conversion, and activations on their way."""
        w = self.widths
        build = self._tables_built * w.build * self._rounds / self._split
        merge = (self._split - 1).bit_length() * self.workload["m"] * (w.accumulator + 1) * self._rounds
        if self.schedule["conversion"] == IN_ARRAYS:
            convert = self._conversions * w.convert * self._rounds / self._split
        else:
            elements = self._conversions * self.workload["n"]
            moved = elements * w.accumulator / 8 / self.sram.broadcast_bytes
            convert = moved + elements / HOST_ELEMENTS_PER_NS / self.sram.clock_ns
        return float(build + merge + convert + self._feed_cycles)

    def _joules(self, compute: float) -> float:
        used = min(self.sram.arrays, ceil_div(self.workload["n"] * self._split, self.sram.bitlines))
        constants = self.sram.energy_pj
        picojoules = used * (compute * constants["compute_cycle"] + self._feed_cycles * constants["access_cycle"])
        return float(picojoules + self.workload.nbytes * constants["dram_byte"]) * 1e-12
