"""What a kernel prepares from its activations, per row of x and group of K.

For a group with activations a, codes c, zero point z and weight scale s the result gains
``s · Σ a·(c - z)``. The inner loops compute integer (or float) sums S over what is prepared here, and

    Σ a·(c - z)  ≈  S · factor + total · (h - z)

with h = 0 for sums over whole codes, and h = (2^b - 1)/2 for sums over bit planes, where a code is
``(Σ_p 2^p·(±1)) / 2 + h``.

Here a is the activation times the step of the weight's format (2 for ``bip1``, else 1).

* ``integer``: a ≈ q·l with int8 q and l = max|a| / 127; factor = l, total = l·Σq.
* ``lut``: entry e of a table of four activations is ``Σ_i ±a_i`` (plus where bit i of e is set), as int8
  times l; factor = l/2, total = Σa.
* ``mirror``, ``triplets``: see ``halftables``; factor = l/2 (bit planes) or l (ternary) of 2^-16, total = Σa.
* ``dequantise``: a as float; factor = 1, total = Σa.

Where the operator ``quantize`` has prepared codes or tables before, they are read as they lie (:class:`Given`): the
step, a power of two, is then left to factor and total.
"""

from __future__ import annotations

import abc

from fettle.backends.cpu.gemv import halftables, quantise
from fettle.backends.cpu.gemv.formats import Floats
from fettle.backends.cpu.gemv.plan import Plan
from fettle.backends.cpu.gemv.quantise import LANES
from fettle.backends.cpu.gemv.words import (
    Buffer,
    Expr,
    Registers,
    T,
    constant,
    fold,
    load,
    loop,
    parallel,
    splat,
    store,
)


class Prepared(abc.ABC):
    """Prepared activations: ``values`` by (row, k), ``factor``, ``total`` and ``offset`` by (row, group)."""

    def __init__(self, plan: Plan, values: Buffer) -> None:
        self.plan = plan
        self.values = values
        pairs = (plan.m * plan.groups,)
        self.factor: Buffer = T.alloc_buffer(pairs, "float32", align=64)
        self.total: Buffer = T.alloc_buffer(pairs, "float32", align=64)
        self.offset: Buffer = T.alloc_buffer(pairs, "float32", align=64)

    @classmethod
    def of(cls, plan: Plan, x: Buffer) -> Prepared:
        """Prepared by the kernel, or given to it, as the plan says."""
        return Given(plan, x) if plan.prepared else Computed(plan, x)

    @abc.abstractmethod
    def prepare_pair(self, pair: Expr) -> None:
        """Emit values, factor and total of a (row, group) pair."""

    def prepare(self, first: Expr, last: Expr) -> None:
        """Emit the preparation of (row, group) pairs ``first`` … ``last - 1``."""
        with T.serial(first, last) as pair:
            self.prepare_pair(pair)
            self._offset(pair)
        if self.plan.has_half_tables:
            with T.serial(first, last) as pair:
                self.finish_pair(pair)

    def finish_pair(self, pair: Expr) -> None:
        """Emit what follows when all pairs are prepared (half tables)."""

    def _offset(self, pair: Expr) -> None:
        """What a sum lacks, whatever the row: ``total · (h - z) - excess · factor``."""
        plan = self.plan
        if not plan.has_offset:
            return
        value = load(self.total, pair, 1) * T.float32(plan.code_bias - plan.zero_point)
        if plan.has_half_tables:
            value = value - load(self.factor, pair, 1) * T.float32(plan.excess * halftables.SUM_UNIT)
        store(self.offset, pair, value, 1)

    def prepare_in_parallel(self) -> None:
        """Emit the preparation of everything, shared among the plan's threads."""
        pairs, threads = self.plan.m * self.plan.groups, self.plan.threads
        with parallel(threads) as thread:
            self.prepare(pairs * thread // threads, pairs * (thread + 1) // threads)


class Given(Prepared):
    """What ``quantize`` prepared (:mod:`fettle.graph.prepared`): values as they lie, units and totals scaled."""

    def __init__(self, plan: Plan, x: Buffer) -> None:
        dtype, size = ("int8", 4 * plan.value_words) if plan.is_lut else ("int32", plan.value_words)
        super().__init__(plan, T.decl_buffer((size,), dtype, data=x.data, align=1 if plan.is_lut else 4))
        self.x = x

    def prepare_pair(self, pair: Expr) -> None:
        plan = self.plan
        units = plan.value_words
        totals = units + plan.m * plan.groups
        step = plan.format.step
        unit = T.Bind(T.reinterpret("float32", self.x[units + pair]) * T.float32(step))
        store(self.factor, pair, unit * T.float32(0.5) if plan.is_lut else unit, 1)
        if plan.is_lut:
            store(self.total, pair, T.reinterpret("float32", self.x[totals + pair]) * T.float32(step), 1)
        else:
            store(self.total, pair, T.Cast("float32", self.x[totals + pair]) * unit, 1)


class Computed(Prepared):
    """Prepared by the kernel itself, in a workspace."""

    def __init__(self, plan: Plan, x: Buffer) -> None:
        size = plan.m * plan.padded_k
        if plan.has_half_tables:
            values: Buffer = T.alloc_buffer((plan.table_bytes,), "uint8", align=64)
            self.rounded = T.alloc_buffer((halftables.rounded_words(plan),), "int16", align=64)
        elif plan.is_lut:
            values = T.alloc_buffer((size * 4,), "int8", align=64)
        elif plan.algorithm == "integer":
            values = T.alloc_buffer((size // 4,), "int32", align=64)
        else:
            values = T.alloc_buffer((size,), "float32", align=64)
        super().__init__(plan, values)
        self.x = x

    def prepare_pair(self, pair: Expr) -> None:
        a = self._padded(self.x, pair)
        if self.plan.has_half_tables:
            store(self.total, pair, halftables.round_group(self.plan, a, self.rounded, self.factor, pair), 1)
        elif self.plan.is_lut:
            self._tables(a, pair)
        elif self.plan.algorithm == "integer":
            self._quantise(a, pair)
        else:
            self._copy(a, pair)

    def finish_pair(self, pair: Expr) -> None:
        halftables.make_tables(self.plan, self.rounded, self.values, pair)

    # -- one (row, group) pair; ``a`` is a buffer with padded_group floats

    def _padded(self, x: Buffer, pair: Expr) -> Buffer:
        """The group's activations as floats, zeros behind its end."""
        plan = self.plan
        floats = Floats(plan.act, plan.converts_half)
        width = halftables.width(plan)
        a = T.alloc_buffer((width,), "float32", align=64)
        row, group = pair // plan.groups, pair % plan.groups
        start = group * plan.group
        if plan.group % LANES == 0 and plan.k % plan.group == 0:
            with loop(plan.group // LANES) as i:
                value = floats.load(x, (row, start + i * LANES), LANES)
                store(a, i * LANES, self._stepped(value, LANES), LANES)
            for i in range(plan.group, width, LANES):
                store(a, i, constant(0, "float32", LANES), LANES)
            return a
        with T.serial(width) as i:
            inside = T.And(i < plan.group, start + i < plan.k)
            value = T.if_then_else(inside, floats.read(x, (row, start + i), 1), T.float32(0))
            store(a, i, self._stepped(value, 1), 1)
        return a

    def _stepped(self, value: Expr, lanes: int) -> Expr:
        step = self.plan.format.step
        return value if step == 1.0 else value * splat(T.float32(step), lanes)

    def _quantise(self, a: Buffer, pair: Expr) -> None:
        width = self.plan.padded_group
        spans = [(0, pair * (width // 4), width)]
        unit, total = quantise.codes(lambda i: load(a, i, LANES), width, spans, self.values)
        store(self.factor, pair, unit, 1)
        store(self.total, pair, T.Cast("float32", total) * unit, 1)

    def _tables(self, a: Buffer, pair: Expr) -> None:
        width = self.plan.padded_group
        unit, total = quantise.tables(lambda i: load(a, i, LANES), width, pair * width * 4, self.values)
        store(self.factor, pair, unit * T.float32(0.5), 1)
        store(self.total, pair, total, 1)

    def _copy(self, a: Buffer, pair: Expr) -> None:
        width = self.plan.padded_group
        sums = Registers(1, "float32", LANES)
        with loop(width // LANES) as i:
            value = load(a, i * LANES, LANES)
            sums[0] = sums[0] + value
            store(self.values, pair * width + i * LANES, value, LANES)
        store(self.total, pair, fold(sums[0], LANES, lambda u, v: u + v), 1)
