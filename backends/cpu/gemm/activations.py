"""Activations in the order the inner loops walk them, with what the sums need per group and row of x.

Values are ``[group][slab][row][k of the slab]``: rows of a slab are neighbours, since rows of all of K apart would
meet in the same sets of the first-level cache.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator
from typing import ClassVar

from fettle.backends.cpu.gemm.plan import GemmPlan
from fettle.backends.cpu.gemv import quantise
from fettle.backends.cpu.gemv.formats import Floats
from fettle.backends.cpu.gemv.words import Buffer, Expr, T, load, loop, parallel, store

_LANES = 16


class Activations(abc.ABC):
    """A workspace ``values`` of ``dtype`` with ``packing`` elements of K in each."""

    dtype: ClassVar[str]
    packing: ClassVar[int]

    def __init__(self, plan: GemmPlan) -> None:
        self.plan = plan
        self.values: Buffer = T.alloc_buffer(
            (plan.padded_m * plan.packed.padded_k // self.packing,), self.dtype, align=64
        )

    def slab(self, group: Expr, slab: Expr) -> Expr:
        """Where a slab's values begin."""
        plan = self.plan
        k = group * plan.packed.padded_group + slab * plan.slab_steps * plan.packed.step_k
        return k // self.packing * plan.padded_m

    def prepare(self, x: Buffer) -> None:
        """Emit the preparation of all (row, group) pairs, shared among the threads."""
        plan = self.plan
        pairs = plan.padded_m * plan.packed.groups
        with parallel(plan.threads) as thread:
            first, last = pairs * thread // plan.threads, pairs * (thread + 1) // plan.threads
            with T.serial(first, last) as pair:
                self.prepare_pair(x, pair // plan.packed.groups, pair % plan.packed.groups)

    def prepare_pair(self, x: Buffer, row: Expr, group: Expr) -> None:
        """Emit the preparation of one group of a row."""
        self.prepare_group(self._padded(x, T.min(row, self.plan.m - 1), group), row, group)

    @abc.abstractmethod
    def prepare_group(self, a: Buffer, row: Expr, group: Expr) -> None:
        """Emit the preparation of one group of a row, whose floats are in ``a``."""

    def slabs(self, row: Expr, group: Expr) -> Iterator[tuple[Expr, Expr, int]]:
        """(place in the group, place in the values, width) of a row's slabs, inside a loop over the full ones."""
        plan = self.plan
        full, tail = plan.slabs
        step_k = plan.packed.step_k
        if full:
            with loop(full) as slab:
                width = plan.slab_steps * step_k
                yield slab * width, self.slab(group, slab) + row * (width // self.packing), width
        if tail:
            width = tail * step_k
            start = full * plan.slab_steps * step_k
            yield start, self.slab(group, full) + row * (width // self.packing), width

    def _padded(self, x: Buffer, row: Expr, group: Expr) -> Buffer:
        """The group's activations as floats, zeros behind its end."""
        packed = self.plan.packed
        width = packed.padded_group
        floats = Floats(self.plan.act)
        a = T.alloc_buffer((width,), "float32", align=64)
        start = group * packed.group
        if packed.is_exact:
            with loop(width // _LANES) as i:
                store(a, i * _LANES, floats.read(x, (row, start + i * _LANES), _LANES), _LANES)
            return a
        with T.serial(width) as i:
            inside = T.And(i < packed.group, start + i < packed.k)
            store(a, i, T.if_then_else(inside, floats.read(x, (row, start + i), 1), T.float32(0)), 1)
        return a


class Quantised(Activations):
    """As int8, four to a word, with ``factor`` and ``offset`` by (group, row).

    With l = max|a| / 127 over the group: ``q = round(a / l)``, ``factor = l``, and ``offset = -z·Σq``, from which sums
    of ``q·code`` start so that they end as ``Σ q·(code - z)``. None of it depends on M or on the schedule.
    """

    dtype: ClassVar[str] = "int32"
    packing: ClassVar[int] = 4

    def __init__(self, plan: GemmPlan) -> None:
        super().__init__(plan)
        self.factor: Buffer = T.alloc_buffer((plan.padded_m * plan.packed.groups,), "float32", align=64)
        self.offset: Buffer = T.alloc_buffer((plan.padded_m * plan.packed.groups,), "int32", align=64)

    def prepare_group(self, a: Buffer, row: Expr, group: Expr) -> None:
        width = self.plan.packed.padded_group
        unit, total = quantise.codes(lambda i: load(a, i, _LANES), width, self.slabs(row, group), self.values)
        self.put(row, group, unit, total)

    def put(self, row: Expr, group: Expr, unit: Expr, total: Expr) -> None:
        """Emit the factor and offset of a group of a row from its l and Σq."""
        place = group * self.plan.padded_m + row
        store(self.factor, place, unit, 1)
        store(self.offset, place, total * T.int32(-self.plan.zero_point), 1)


class Given(Quantised):
    """The same from what ``quantize`` prepared (:mod:`fettle.graph.prepared`), moved to where the inner loops walk."""

    def prepare_pair(self, x: Buffer, row: Expr, group: Expr) -> None:
        packed = self.plan.packed
        pair = T.min(row, self.plan.m - 1) * packed.groups + group
        first = pair * (packed.group // self.packing)
        for source, target, width in self.slabs(row, group):
            with loop(width // _LANES) as i:
                words = load(x, first + (source + i * _LANES) // self.packing, _LANES // self.packing)
                store(self.values, target + i * (_LANES // self.packing), words, _LANES // self.packing)
        units = packed.value_words
        unit, total = x[units + pair], x[units + packed.m * packed.groups + pair]
        self.put(row, group, T.reinterpret("float32", unit), total)


class Copied(Activations):
    """As float32."""

    dtype: ClassVar[str] = "float32"
    packing: ClassVar[int] = 1

    def prepare_group(self, a: Buffer, row: Expr, group: Expr) -> None:
        for source, target, width in self.slabs(row, group):
            with loop(width // _LANES) as i:
                store(self.values, target + i * _LANES, load(a, source + i * _LANES, _LANES), _LANES)
