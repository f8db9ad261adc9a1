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
* ``mirror``: see ``halftables``; factor = l/2 (bit planes) or l (ternary), total = Σa.
* ``dequantise``: a as float; factor = 1, total = Σa.
"""

from __future__ import annotations

from fettle.backends.cpu.gemv.formats import Floats
from fettle.backends.cpu.gemv.halftables import half_tables, padded_width
from fettle.backends.cpu.gemv.plan import Plan
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
    total,
)

LANES = 16
"""Activations handled at once; LLVM splits the vectors where registers are narrower."""

_TINY = 1e-30
"""Groups whose largest value is below this quantise coarsely instead of dividing by zero."""


class Prepared:
    """Workspaces of the prepared activations: ``values`` by (row, k), ``factor`` and ``offset`` by (row, group)."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        size = plan.m * plan.padded_k
        if plan.is_mirror:
            self.values: Buffer = T.alloc_buffer((plan.table_bytes,), "uint8", align=64)
        elif plan.is_lut:
            self.values = T.alloc_buffer((size * 4,), "int8", align=64)
        elif plan.algorithm == "integer":
            self.values = T.alloc_buffer((size // 4,), "int32", align=64)
        else:
            self.values = T.alloc_buffer((size,), "float32", align=64)
        self.factor: Buffer = T.alloc_buffer((plan.m * plan.groups,), "float32", align=64)
        self.total: Buffer = T.alloc_buffer((plan.m * plan.groups,), "float32", align=64)
        self.offset: Buffer = T.alloc_buffer((plan.m * plan.groups,), "float32", align=64)

    def prepare(self, x: Buffer, first: Expr, last: Expr) -> None:
        """Emit the preparation of (row, group) pairs ``first`` … ``last - 1``."""
        with T.serial(first, last) as pair:
            a = self._padded(x, pair)
            if self.plan.is_mirror:
                total = half_tables(self.plan, a, self.values, self.factor, pair)
                store(self.total, pair, total, 1)
            elif self.plan.is_lut:
                self._tables(a, pair)
            elif self.plan.algorithm == "integer":
                self._quantise(a, pair)
            else:
                self._copy(a, pair)
            self._offset(pair)

    def _offset(self, pair: Expr) -> None:
        """What a sum lacks, whatever the row: ``total · (h - z) - centre · factor``."""
        plan = self.plan
        value = load(self.total, pair, 1) * T.float32(plan.code_bias - plan.zero_point)
        if plan.is_mirror:
            value = value - load(self.factor, pair, 1) * T.float32(plan.centre)
        store(self.offset, pair, value, 1)

    def prepare_in_parallel(self, x: Buffer) -> None:
        """Emit the preparation of everything, shared among the plan's threads."""
        pairs, threads = self.plan.m * self.plan.groups, self.plan.threads
        with parallel(threads) as thread:
            self.prepare(x, pairs * thread // threads, pairs * (thread + 1) // threads)

    # -- one (row, group) pair; ``a`` is a buffer with padded_group floats

    def _padded(self, x: Buffer, pair: Expr) -> Buffer:
        """The group's activations as floats, zeros behind its end."""
        plan = self.plan
        floats = Floats(plan.act, plan.converts_half)
        width = padded_width(plan)
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
        largest = Registers(1, "float32", LANES)
        with loop(width // LANES) as i:
            largest[0] = T.max(largest[0], T.abs(load(a, i * LANES, LANES)))
        inverse, unit = _scale(fold(largest[0], LANES, T.max))
        sums = Registers(1, "int32", LANES)
        with loop(width // LANES) as i:
            q = T.Bind(_round(load(a, i * LANES, LANES) * splat(inverse, LANES)))
            sums[0] = sums[0] + q
            packed = T.reinterpret("int32x4", T.Cast("int8x16", q))
            store(self.values, pair * (width // 4) + i * (LANES // 4), packed, LANES // 4)
        store(self.factor, pair, unit, 1)
        store(self.total, pair, T.Cast("float32", fold(sums[0], LANES, lambda u, v: u + v)) * unit, 1)

    def _tables(self, a: Buffer, pair: Expr) -> None:
        width = self.plan.padded_group
        largest, sums = Registers(1, "float32", LANES), Registers(1, "float32", LANES)
        with loop(width // LANES) as i:
            value = load(a, i * LANES, LANES)
            sums[0] = sums[0] + value
            size = T.Bind(T.abs(value))
            for distance in (1, 2):  # every lane gets the sum of its quad
                size = T.Bind(size + T.Shuffle([size], [lane ^ distance for lane in range(LANES)]))
            largest[0] = T.max(largest[0], size)
        inverse, unit = _scale(fold(largest[0], LANES, T.max))
        with loop(width // 4) as quad:
            terms = [_signs(i) * splat(T.Bind(load(a, quad * 4 + i, 1) * inverse), LANES) for i in range(4)]
            store(self.values, (pair * (width // 4) + quad) * LANES, T.Cast("int8x16", _round(total(terms))), LANES)
        store(self.factor, pair, unit * T.float32(0.5), 1)
        store(self.total, pair, fold(sums[0], LANES, lambda u, v: u + v), 1)

    def _copy(self, a: Buffer, pair: Expr) -> None:
        width = self.plan.padded_group
        sums = Registers(1, "float32", LANES)
        with loop(width // LANES) as i:
            value = load(a, i * LANES, LANES)
            sums[0] = sums[0] + value
            store(self.values, pair * width + i * LANES, value, LANES)
        store(self.total, pair, fold(sums[0], LANES, lambda u, v: u + v), 1)


def _scale(largest: Expr) -> tuple[Expr, Expr]:
    """(127 / largest, largest / 127)."""
    bounded = T.Bind(T.max(largest, T.float32(_TINY)))
    return T.Bind(T.float32(127) / bounded), T.Bind(bounded * T.float32(1 / 127))


def _round(value: Expr) -> Expr:
    """Nearest int32, ties to even."""
    return T.Cast(f"int32x{LANES}", T.nearbyint(value))


def _signs(bit: int) -> Expr:
    """+1 in the lanes whose number has the bit set, -1 in the others."""
    lane = T.ramp(T.int32(0), 1, LANES)
    is_set = T.bitwise_and(lane, constant(1 << bit, "int32", LANES)) > constant(0, "int32", LANES)
    return T.Select(is_set, constant(1, "float32", LANES), constant(-1, "float32", LANES))
