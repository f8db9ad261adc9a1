"""Sums of float activations times codes: no rounding of activations, and no instruction beyond the baseline's.

Each byte of a word adds to a sum of its own: one sum would wait for every multiply-add to finish.
"""

from __future__ import annotations

from fettle.backends.cpu.gemv.dots import Dot, Partial
from fettle.backends.cpu.gemv.words import Expr, T, constant, splat, total


class Dequantise(Dot):
    """Every code becomes a float in its row's lane. Reads the lines of ``integer``."""

    def partials(self, base: Expr, part: int, rows: list[Expr], group: Expr) -> list[Partial]:
        plan = self.plan
        lanes = plan.lanes
        mask = constant((1 << plan.field) - 1, "uint32", lanes)
        sums = self.registers("float32")
        for step in self.steps():
            for block in range(plan.blocks):
                line = T.Bind(T.reinterpret(f"uint32x{lanes}", self.line(base, part, block, step)))
                for chunk in range(4 * plan.fields):  # k of the step: four bytes a field
                    shift = 8 * (chunk % 4) + plan.field * (chunk // 4)
                    bits = T.bitwise_and(T.shift_right(line, constant(shift, "uint32", lanes)), mask)
                    code = T.Bind(T.Cast(f"float32x{lanes}", T.Cast(f"int32x{lanes}", bits)))
                    for b, row in enumerate(rows):
                        first = (row * plan.groups + group) * plan.padded_group
                        value = self.prepared.values[first + step * plan.step_k + chunk]
                        index = self.slot(b, block) * 4 + chunk % 4
                        sums[index] = sums[index] + code * splat(value, lanes)
        return [
            Partial(b, block, part, total([sums[slot * 4 + i] for i in range(4)])) for b, block, slot in self.slots()
        ]
