"""``compute=f32`` and ``bf16``: activations as they are, weights dequantised to float32 once a band.

Every sum adds its products in the order of K, one multiply-add each, whatever the schedule.
"""

from __future__ import annotations

from fettle.backends.cpu.gemm.activations import Activations
from fettle.backends.cpu.gemm.decode import step_chunks
from fettle.backends.cpu.gemm.plan import LANES, GemmPlan
from fettle.backends.cpu.gemm.tiles import Arguments, Tiles
from fettle.backends.cpu.gemv.words import Expr, Registers, T, constant, load, loop, splat, store


class FloatTiles(Tiles):
    """``weights`` are the dequantised ones of a slab, ``[block][k][16 rows]``."""

    def __init__(self, plan: GemmPlan, arguments: Arguments, activations: Activations) -> None:
        super().__init__(plan, arguments, activations)
        self.slab_size = plan.slab_steps * plan.packed.step_k * LANES
        self.weights = T.alloc_buffer((plan.panel_blocks * self.slab_size,), "float32", scope="local")

    def group(self, group: Expr, index: Expr) -> None:
        for slab, steps in self.slabs():
            self._dequantise(index, slab, steps)
            self._multiply(group, slab, steps * self.plan.packed.step_k)

    def _dequantise(self, index: Expr, slab: Expr, steps: int) -> None:
        """Emit ``scale · (code - z)`` of a slab."""
        plan = self.plan
        with loop(plan.panel_blocks) as block:
            column = index + block * LANES
            scale = self.scale_floats.load(self.arguments.scales, column, LANES)
            zero = constant(plan.zero_point, "float32", LANES)
            if self.arguments.zero_points is not None:
                zero = T.Cast(f"float32x{LANES}", load(self.arguments.zero_points, column, LANES))
            zero = T.Bind(zero)
            lines = self.lines(index, slab, block)
            with loop(steps) as step:
                for c, chunk in enumerate(step_chunks(plan, self.arguments.weights, lines, step, self.ahead)):
                    words = T.Bind(T.reinterpret(f"uint32x{LANES}", chunk))
                    for byte in range(4):
                        code = T.Cast(f"float32x{LANES}", T.Cast(f"int32x{LANES}", _byte(words, byte)))
                        place = block * self.slab_size + (step * plan.packed.step_k + c * 4 + byte) * LANES
                        store(self.weights, place, (code - zero) * scale, LANES)

    def _multiply(self, group: Expr, slab: Expr, width: int) -> None:
        """Emit the products of a slab of ``width`` elements of K."""
        plan = self.plan
        values = self.activations.slab(group, slab) + self.band * plan.band * width
        with self.register_tiles() as (row, block):
            registers = Registers(plan.rows * plan.vectors, "float32", LANES, zeroed=False)
            for slot, (r, v) in enumerate(self.slots()):
                registers[slot] = load(self.sums, self.place(row + r, block + v), LANES)
            unroll = plan.unroll if width % plan.unroll == 0 else 1
            with loop(width // unroll) as run:
                for u in range(unroll):
                    self._column(registers, values + row * width, width, block, run * unroll + u)
            for slot, (r, v) in enumerate(self.slots()):
                store(self.sums, self.place(row + r, block + v), registers[slot], LANES)

    def _column(self, registers: Registers, values: Expr, width: int, block: Expr, k: Expr) -> None:
        """One element of K of a register tile."""
        plan = self.plan
        weights = [load(self.weights, (block + v) * self.slab_size + k * LANES, LANES) for v in range(plan.vectors)]
        for r in range(plan.rows):
            a = T.Bind(splat(self.activations.values[values + r * width + k], LANES))
            for v in range(plan.vectors):
                slot = r * plan.vectors + v
                registers[slot] = registers[slot] + weights[v] * a


def _byte(words: Expr, byte: int) -> Expr:
    """Byte ``byte`` of every 32-bit lane."""
    shifted = T.shift_right(words, constant(8 * byte, "uint32", LANES)) if byte else words
    return T.bitwise_and(shifted, constant(255, "uint32", LANES)) if byte < 3 else shifted
