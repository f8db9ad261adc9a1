"""Activations as int8, in the order the inner loop walks them, with what the sums need per group and row of x.

With l = max|a| / 127 over the group: ``q = round(a / l)`` as int8, ``factor = l``, and ``offset = -z·Σq``, from which
sums of ``q·code`` start so that they end as ``Σ q·(code - z)``. None of it depends on M or on the schedule.

Values are ``[group][slab][row][k of the slab]``: rows of a slab are neighbours, since rows of all of K apart would
meet in the same sets of the first-level cache.
"""

from __future__ import annotations

from fettle.backends.cpu.gemm.plan import GemmPlan
from fettle.backends.cpu.gemv.formats import Floats
from fettle.backends.cpu.gemv.words import Buffer, Expr, Registers, T, fold, load, loop, parallel, splat, store

_LANES = 16
_TINY = 1e-30
"""Groups whose largest value is below this quantise coarsely instead of dividing by zero."""


class Activations:
    """Workspaces: ``values`` (four int8 a word), ``factor`` and ``offset`` by (group, row)."""

    def __init__(self, plan: GemmPlan) -> None:
        self.plan = plan
        self.floats = Floats(plan.act)
        packed = plan.packed
        self.values: Buffer = T.alloc_buffer((plan.padded_m * packed.padded_k // 4,), "int32", align=64)
        self.factor: Buffer = T.alloc_buffer((plan.padded_m * packed.groups,), "float32", align=64)
        self.offset: Buffer = T.alloc_buffer((plan.padded_m * packed.groups,), "int32", align=64)

    def slab(self, group: Expr, slab: Expr) -> Expr:
        """Where a slab's words begin."""
        plan = self.plan
        rows = group * plan.packed.padded_group + slab * plan.slab_steps * plan.packed.step_k
        return rows // 4 * plan.padded_m

    def prepare(self, x: Buffer) -> None:
        """Emit the preparation of all (row, group) pairs, shared among the threads."""
        plan = self.plan
        pairs = plan.padded_m * plan.packed.groups
        with parallel(plan.threads) as thread:
            first, last = pairs * thread // plan.threads, pairs * (thread + 1) // plan.threads
            with T.serial(first, last) as pair:
                row, group = pair // plan.packed.groups, pair % plan.packed.groups
                self._quantise(self._padded(x, T.min(row, plan.m - 1), group), row, group)

    def _padded(self, x: Buffer, row: Expr, group: Expr) -> Buffer:
        """The group's activations as floats, zeros behind its end."""
        packed = self.plan.packed
        width = packed.padded_group
        a = T.alloc_buffer((width,), "float32", align=64)
        start = group * packed.group
        if packed.is_exact:
            with loop(width // _LANES) as i:
                store(a, i * _LANES, self.floats.read(x, (row, start + i * _LANES), _LANES), _LANES)
            return a
        with T.serial(width) as i:
            inside = T.And(i < packed.group, start + i < packed.k)
            store(a, i, T.if_then_else(inside, self.floats.read(x, (row, start + i), 1), T.float32(0)), 1)
        return a

    def _quantise(self, a: Buffer, row: Expr, group: Expr) -> None:
        plan = self.plan
        largest = Registers(1, "float32", _LANES)
        with loop(plan.packed.padded_group // _LANES) as i:
            largest[0] = T.max(largest[0], T.abs(load(a, i * _LANES, _LANES)))
        bound = T.Bind(T.max(fold(largest[0], _LANES, T.max), T.float32(_TINY)))
        inverse = T.Bind(T.float32(127) / bound)
        sums = Registers(1, "int32", _LANES)
        full, tail = plan.slabs
        with loop(full) as slab:
            self._slab(a, row, group, slab, plan.slab_steps, inverse, sums)
        if tail:
            self._slab(a, row, group, full, tail, inverse, sums)
        place = group * plan.padded_m + row
        store(self.factor, place, bound * T.float32(1 / 127), 1)
        total = fold(sums[0], _LANES, lambda u, v: u + v)
        store(self.offset, place, total * T.int32(-plan.zero_point), 1)

    def _slab(self, a: Buffer, row: Expr, group: Expr, slab: Expr, steps: int, inverse: Expr, sums: Registers) -> None:
        """Round the values of one slab, which has ``steps`` steps."""
        width = steps * self.plan.packed.step_k
        source = slab * self.plan.slab_steps * self.plan.packed.step_k
        target = self.slab(group, slab) + row * (width // 4)
        with loop(width // _LANES) as i:
            scaled = load(a, source + i * _LANES, _LANES) * splat(inverse, _LANES)
            q = T.Bind(T.Cast(f"int32x{_LANES}", T.nearbyint(scaled)))
            sums[0] = sums[0] + q
            words = T.reinterpret("int32x4", T.Cast("int8x16", q))
            store(self.values, target + i * (_LANES // 4), words, _LANES // 4)
