"""P of one row of scores: exp(scale · s − top), top being the largest scaled score it sees; others weigh nothing."""

from __future__ import annotations

from typing import Any

from tvm.tirx.script.builder import ir as T

from fettle.backends.cpu.attention.plan import Plan
from fettle.backends.cpu.attention.words import LOWEST, Words
from fettle.backends.cpu.rows.exp import exp
from fettle.backends.cpu.rows.vectors import Registers


class Weighing:
    """One row, in vectors of as many keys as a register has lanes.

    Args:
        row: of the scores and the weights.
        groups: vectors of scores.
        seen: how many keys the row sees, from the first; None: all of them.
    """

    def __init__(self, plan: Plan, v: Words, scores: Any, row: Any, groups: Any, seen: Any) -> None:
        self._plan, self._v = plan, v
        self._scores, self._row, self._groups, self._seen = scores, row, groups, seen

    def _place(self, index: Any) -> Any:
        return T.Ramp(index * self._plan.lanes, T.int64(1), self._plan.lanes)

    def _masked(self, index: Any, value: Any, otherwise: float) -> Any:
        if self._seen is None:
            return value
        v = self._v
        return v.where(v.first(self._seen - index * self._plan.lanes), value, v.constant(otherwise))

    def top(self) -> Any:
        """The largest scaled score."""
        highest = Registers(self._v, 1, LOWEST)
        with T.serial(T.int64(0), self._groups) as index:
            value = self._masked(index, self._scores[self._row, self._place(index)], LOWEST)
            highest[0] = T.max(value, highest[0])
        return highest.reduce(T.max, [0]) * T.float32(self._plan.scale)

    def store(self, weights: Any, top: Any) -> Any:
        """Store the weights of the row; returns their sum."""
        plan, v = self._plan, self._v
        shift = v.spread(T.float32(0) - top)
        total = Registers(v, 1, 0.0)
        with T.serial(T.int64(0), self._groups) as index:
            scaled = v.multiply_add(self._scores[self._row, self._place(index)], v.constant(plan.scale), shift)
            value = exp(v, v.let(scaled), plan.degree, non_positive=True, precise=False)
            if self._seen is not None:
                value = v.let(self._masked(index, value, 0.0))
            total[0] = total[0] + value
            v.store_weights(weights, self._row, index, value)
        return total.reduce(lambda a, b: a + b, [0])
