"""What the sums of int8 activations times codes have in common, whichever instruction multiplies: exact in int32,
scaled once a group in the same order of roundings, so that every schedule gives the same bits.

``y[m, n] = Σ_g scale[n, g] · factor[m, g] · S[m, n, g]`` with ``S = Σ_k q[m, k]·(code[n, k] - z[n, g])``.
"""

from __future__ import annotations

from fettle.backends.cpu.gemm.activations import Quantised
from fettle.backends.cpu.gemm.decode import BYTES, step_chunks
from fettle.backends.cpu.gemm.plan import LANES, GemmPlan
from fettle.backends.cpu.gemm.tiles import Arguments, Tiles
from fettle.backends.cpu.gemv.words import Expr, T, constant, load, loop, prefetch, read, splat, store


class CodeTiles(Tiles):
    """``codes`` are the decoded ones of a slab, ``[block][chunk][64]``, where they are staged."""

    activations: Quantised

    def __init__(self, plan: GemmPlan, arguments: Arguments, activations: Quantised) -> None:
        super().__init__(plan, arguments, activations)
        self.slab_bytes = plan.slab_steps * plan.step_chunks * BYTES
        if plan.is_staged:
            self.codes = T.alloc_buffer((plan.panel_blocks * self.slab_bytes,), "uint8", scope="local", align=64)

    def stage(self, index: Expr, slab: Expr, steps: int) -> None:
        """Emit the decoding of a slab's codes, less their zero points if the plan is centred."""
        plan = self.plan
        with loop(plan.panel_blocks) as block:
            zeros = self._zero_bytes(index + block * LANES) if plan.is_centred else None
            lines = self.lines(index, slab, block)
            with loop(steps) as step:
                for i, chunk in enumerate(step_chunks(plan, self.arguments.weights, lines, step, self.ahead)):
                    place = block * self.slab_bytes + (step * plan.step_chunks + i) * BYTES
                    store(self.codes, place, chunk if zeros is None else chunk - zeros, BYTES)

    def ask_ahead(self, index: Expr, slab: Expr, steps: int) -> None:
        """Emit prefetches of what decoding would have asked for."""
        plan, ahead = self.plan, self.ahead
        if ahead is None:
            return
        with loop(plan.panel_blocks) as block, loop(steps * plan.packed.planes) as line:
            prefetch(self.arguments.weights, self.lines(index, slab, block) + line * plan.line_stride + ahead)

    def offset(self, group: Expr, index: Expr, row: Expr, block: Expr) -> Expr:
        """What a vector of a group's sums of plain codes lacks: ``-z·Σq``."""
        offset = splat(self._per_row(self.activations.offset, group, row), LANES)
        if self.arguments.zero_points is None:
            return offset
        return offset * T.Cast(f"int32x{LANES}", load(self.arguments.zero_points, index + block * LANES, LANES))

    def add(self, group: Expr, index: Expr, row: Expr, block: Expr, value: Expr) -> None:
        """Scale a vector of a group's sums and add it to the tile's."""
        factor = self._per_row(self.activations.factor, group, row)
        scale = self.scale_floats.read(self.arguments.scales, index + block * LANES, LANES)
        place = self.place(row, block)
        scaled = T.Cast(f"float32x{LANES}", value) * splat(factor, LANES)
        store(self.sums, place, read(self.sums, place, LANES) + scale * scaled, LANES)

    def _per_row(self, buffer: Expr, group: Expr, row: Expr) -> Expr:
        return buffer[group * self.plan.padded_m + self.band * self.plan.band + row]

    def _zero_bytes(self, column: Expr) -> Expr:
        """The zero point of 16 rows of W in all four bytes of their lanes."""
        if self.arguments.zero_points is None:
            return constant(self.plan.zero_point, "uint8", BYTES)
        zeros = T.Cast(f"int32x{LANES}", load(self.arguments.zero_points, column, LANES))
        return T.Bind(T.reinterpret(f"uint8x{BYTES}", zeros * constant(0x01010101, "int32", LANES)))
