"""Matrix-vector products: shapes, and the weight columns they take in DRAM."""

from __future__ import annotations

import attrs
import numpy as np

from fettle.backends.pim.mapping import Array
from fettle.backends.rounding import ceil_div
from fettle.graph.formats import BITS, PER_ROW, Format


@attrs.frozen
class Gemv:
    """``y[p,m,n] = Σ_k x[p,m,k] · W[p,n,k]`` for every problem p.

    Attributes:
        problems: independent products of one shape (batch, heads).
        bits: of a stored weight; columns hold ``column_bits / bits`` of them.
        group: elements of K that share a scale; 0 without scales.
        scale_bits: of one scale and zero point together.
        format: of x, ``bf16`` or ``f16``.
        wide: results leave a unit as float32, in two reads, instead of in ``format``: attention scores, because
            rounding a logit to bf16 moves its probability by more than the operator's tolerance.
    """

    problems: int
    m: int
    n: int
    k: int
    format: Format
    bits: int = 16
    group: int = 0
    scale_bits: int = 0
    wide: bool = False

    def columns(self, k: int, column_bytes: int) -> int:
        """Columns that ``k`` weights of a row take, with their scales behind them."""
        column_bits = 8 * column_bytes
        scales = ceil_div(k, self.group) * self.scale_bits if self.group else 0
        return ceil_div(k * self.bits, column_bits) + ceil_div(scales, column_bits)

    def leaving(self, sums: Array) -> Array:
        """Accumulators, float32, as the host reads them."""
        return sums if self.wide else rounded(sums, self.format)

    @property
    def weight_bytes(self) -> int:
        """Of all problems, scales included."""
        scales = ceil_div(self.k, self.group) * self.scale_bits if self.group else 0
        return self.problems * self.n * ceil_div(self.k * self.bits + scales, 8)

    @classmethod
    def of_weight(cls, m: int, n: int, k: int, act: Format, weight: Format, problems: int = 1) -> Gemv:
        """Of a dense or quantised weight format."""
        if weight.group is None:
            return cls(problems, m, n, k, act, weight.bits)
        group = k if weight.group == PER_ROW else weight.group
        scale_bits = BITS[weight.scale] + (weight.bits if weight.zero_points else 0)
        return cls(problems, m, n, k, act, weight.bits, group, scale_bits)


def rounded(values: Array, to: Format) -> Array:
    """float32 values as they are after passing through a 16-bit register."""
    return values.astype(to.dtype).astype(np.float32)
