"""How many cycles an array computes on a tile: folds of a stationary operand, operands streaming by.

An R×C array holds one fold: up to R×C elements of the operand that stays. The T elements of the streamed dimension
enter row by row, one row a cycle later than the one above; what leaves at the far corner went through R - 1 rows and
C - 1 columns. So a fold takes ``L + T + (R - 1) + (C - 1)`` cycles, where L = R cycles load weights or inputs that
stay (outputs that stay start at zero, L = 0). The whole array is clocked, however little of it a fold uses.

================= ============= ============ ========= ===
dataflow          over the rows over columns streamed  L
================= ============= ============ ========= ===
output_stationary m             n            k         0
weight_stationary k             n            m         R
input_stationary  k             m            n         R
================= ============= ============ ========= ===

A total counts the cycle in which the last result leaves from zero, as SCALE-Sim does (2304.05499).
"""

from __future__ import annotations

import attrs

from fettle.backends.npu.systolic.hardware import BIT_SERIAL, LUT, Systolic

OUTPUT, WEIGHT, INPUT = "output_stationary", "weight_stationary", "input_stationary"
DATAFLOWS = (OUTPUT, WEIGHT, INPUT)

LUT_M, LUT_N, LUT_K = 2, 64, 4
"""Rows, columns and depth of the product a LUT tensor core forms for one bit of the weights in a cycle."""

TABLE_ENTRIES = 1 << (LUT_K - 1)
"""Of a mirrored table: the other half are these with their signs changed."""


@attrs.frozen
class Folding:
    """How a dataflow lays (m, n, k), numbered 0, 1, 2, over the array."""

    over_rows: int
    over_cols: int
    streamed: int
    loads: bool


FOLDINGS = {OUTPUT: Folding(0, 1, 2, False), WEIGHT: Folding(2, 1, 0, True), INPUT: Folding(2, 0, 1, True)}


@attrs.frozen
class Cost:
    """Cycles of one tile of the array as a function of its extents.

    Attributes:
        lut: a LUT tensor core: ``row_block`` … are its extents, and ``overhead`` is 0.
        over_rows, over_cols, streamed: which of (m, n, k) goes where.
        row_block, col_block: extents of one fold.
        overhead: cycles of a fold beyond its streaming.
        rate: cycles per element streamed.
    """

    lut: bool
    over_rows: int
    over_cols: int
    streamed: int
    row_block: int
    col_block: int
    overhead: int
    rate: int
    units: int = 1

    def folds(self, extents: tuple[int, int, int]) -> int:
        """Folds of a tile."""
        return -(-extents[self.over_rows] // self.row_block) * -(-extents[self.over_cols] // self.col_block)

    def cycles(self, extents: tuple[int, int, int]) -> int:
        """Cycles of a tile that continues nothing."""
        if self.lut:
            passes = self.folds(extents) * -(-extents[self.streamed] // LUT_K) * self.rate
            return -(-passes // self.units)
        return self.folds(extents) * (self.overhead + extents[self.streamed] * self.rate)


def cost(hardware: Systolic, dataflow: str, weight_bits: int) -> Cost:
    """The cost of a dataflow on a device, for weights of that many bits."""
    if hardware.pe == LUT:
        return Cost(True, 0, 1, 2, LUT_M, LUT_N, 0, weight_bits, hardware.units)
    folding = FOLDINGS[dataflow]
    overhead = (hardware.rows if folding.loads else 0) + hardware.rows + hardware.cols - 2
    rate = weight_bits if hardware.pe == BIT_SERIAL else 1
    blocks = (hardware.rows, hardware.cols)
    return Cost(False, folding.over_rows, folding.over_cols, folding.streamed, *blocks, overhead, rate)
