"""P of one row of scores: exp(scale · s − top), top being the largest scaled score it sees; others weigh nothing.

A mask is added to scaled scores before, which then lie where the scores did.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tvm.tirx.script.builder import ir as T

from fettle.backends.cpu.attention.plan import Plan
from fettle.backends.cpu.attention.words import LOWEST, Words
from fettle.backends.cpu.rows.exp import exp
from fettle.backends.cpu.rows.vectors import Registers


class MaskRow(NamedTuple):
    """One row of a mask, from one key on: a matrix of f32, the row there, and the column of the first score."""

    buffer: Any
    row: Any
    start: Any


class Mask:
    """The mask's rows, ``[batch, heads, q]`` or 1 in place of each."""

    def __init__(self, plan: Plan, v: Words, buffer: Any) -> None:
        self._plan, self._v, self._buffer = plan, v, buffer

    def row(self, shared: Any, inner: Any, start: Any) -> MaskRow:
        """Of one query, from the key ``start`` on.

        Args:
            shared: its head of keys, counted over all batches.
            inner: its number among the queries that share them: head by head, then by position.
        """
        plan = self._plan
        batches, heads, positions, _ = plan.mask or (1, 1, 1, 1)
        row: Any = T.int64(0)
        if batches > 1:
            row = T.floordiv(shared, T.int64(plan.kv_heads)) * heads
        if heads > 1:
            row += T.floormod(shared, T.int64(plan.kv_heads)) * plan.group + T.floordiv(inner, T.int64(plan.q))
        row = row * positions
        if positions > 1:
            row += T.floormod(inner, T.int64(plan.q))
        return MaskRow(self._buffer, self._v.let(row), start)


class Weighing:
    """One row, in vectors of as many keys as a register has lanes.

    Args:
        row: of the scores and the weights.
        groups: vectors of scores.
        seen: how many keys the row sees, from the first; None: all of them.
        mask: what is added to the row's scaled scores; None: nothing.
    """

    def __init__(
        self, plan: Plan, v: Words, scores: Any, row: Any, groups: Any, seen: Any, mask: MaskRow | None
    ) -> None:
        self._mask = mask
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
            value = self._scores[self._row, self._place(index)]
            if self._mask is not None:
                value = self._with_mask(index, self._mask)
            highest[0] = T.max(self._masked(index, value, LOWEST), highest[0])
        top = highest.reduce(T.max, [0])
        return top if self._mask is not None else top * T.float32(self._plan.scale)

    def _with_mask(self, index: Any, mask: MaskRow) -> Any:
        """A vector of scaled scores with the mask, from now on where the scores were."""
        v, place = self._v, self._place(index)
        seen = None if self._seen is None else v.first(self._seen - index * self._plan.lanes)
        bias = v.load(mask.buffer, [mask.row, mask.start + index * self._plan.lanes], seen)
        value = v.let(v.multiply_add(self._scores[self._row, place], v.constant(self._plan.scale), bias))
        T.buffer_store(self._scores, value, [self._row, place])
        return value

    def store(self, weights: Any, top: Any) -> Any:
        """Store the weights of the row; returns their sum."""
        plan, v = self._plan, self._v
        shift = v.spread(T.float32(0) - top)
        total = Registers(v, 1, 0.0)
        with T.serial(T.int64(0), self._groups) as index:
            score, scale = self._scores[self._row, self._place(index)], v.constant(plan.scale)
            scaled = score + shift if self._mask is not None else v.multiply_add(score, scale, shift)
            value = exp(v, v.let(scaled), plan.degree, non_positive=True, precise=False)
            if self._seen is not None:
                value = v.let(self._masked(index, value, 0.0))
            total[0] = total[0] + value
            v.store_weights(weights, self._row, index, value)
        return total.reduce(lambda a, b: a + b, [0])
