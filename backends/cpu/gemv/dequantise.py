"""Sums of float activations times codes: no rounding of activations, and no instruction beyond the baseline's.

At least four sums are in flight: one would wait for every multiply-add to finish.
"""

from __future__ import annotations

from fettle.backends.cpu.gemv.dots import Dot, Partial
from fettle.backends.cpu.gemv.words import Expr, T, constant, splat, total


class Dequantise(Dot):
    """Every code becomes a float in its row's lane. Reads the lines of ``integer``."""

    def partials(self, base: Expr, rows: list[Expr], group: Expr) -> list[Partial]:
        plan = self.plan
        lanes, count = plan.lanes, plan.accumulators
        mask = constant((1 << plan.field) - 1, "uint32", lanes)
        sums = self.registers("float32")
        for step in self.steps():
            for block, part in self.vectors():
                line = T.Bind(T.reinterpret(f"uint32x{lanes}", self.line(base, block, part, step)))
                for chunk in range(4 * plan.fields):  # k of the step: four bytes a field
                    shift = 8 * (chunk % 4) + plan.field * (chunk // 4)
                    bits = T.bitwise_and(T.shift_right(line, constant(shift, "uint32", lanes)), mask)
                    code = T.Bind(T.Cast(f"float32x{lanes}", T.Cast(f"int32x{lanes}", bits)))
                    for b, row in enumerate(rows):
                        first = (row * plan.groups + group) * plan.padded_group
                        value = self.prepared.values[first + step * plan.step_k + chunk]
                        index = self.slot(b, block, part) * count + chunk % count
                        sums[index] = sums[index] + code * splat(value, lanes)
        return [
            Partial(b, block, part, total([sums[slot * count + i] for i in range(count)]))
            for b, block, part, slot in self.slots()
        ]
