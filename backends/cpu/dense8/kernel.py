"""The product of codes as TensorIR::

    for thread, for its tasks (tiles of panels), for tile of rows, for panel
      acc[rows, vectors] from what the zero point takes off
      for word: acc[r, :] += four products of x[r, word] with W[panel, word, :]
      finish acc, and store it

Weights are bytes ``W[panel, word, column, 4]``, four of K to a column. The sum of a column's weights times the zero
point is what codes are too large by.
"""

from __future__ import annotations

import itertools
from typing import Any

from tvm.script.ir_builder import IRBuilder

from fettle.backends.api import Device
from fettle.backends.cpu.dense8.plan import Plan
from fettle.backends.cpu.gemv.words import Buffer, Expr, Registers, T, argument, load, loop, parallel, splat, store
from fettle.backends.cpu.integers.dots import add_products
from fettle.backends.cpu.integers.finish import DTYPES, finish
from fettle.backends.cpu.integers.words import WORD
from fettle.backends.cpu.rows.vectors import Vectors

_SIGNS = -0x7F7F7F80
"""Changes the sign bit of every byte of a word."""


def emit(plan: Plan, device: Device) -> Any:
    """The ``PrimFunc`` of a plan; parameters (x, zero, W, sums of W, rows, y), zero only where x has one."""
    padded = plan.panels * plan.panel
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("matmul")
        T.func_attr({"tirx.noalias": True})
        x = argument("x", (plan.m, plan.k), DTYPES[plan.act])
        zero = argument("zero", (1,), DTYPES[plan.act]) if plan.has_zero else None
        weights = argument("w", (plan.panels, plan.words, plan.panel * WORD), "int8")
        taken = argument("sums", (padded,), "int32")
        rows = [argument(f"b{i}", (padded,), "float32") for i in range(plan.epilogue.rows if plan.epilogue else 0)]
        y = argument("y", (plan.m, plan.n), DTYPES[plan.out])
        x = T.decl_buffer((plan.m, plan.k), "uint8", data=x.data, align=1)
        code = T.uint8(0) if zero is None else T.decl_buffer((1,), "uint8", data=zero.data, align=1)[0]
        with parallel(plan.threads) as thread:
            _Thread(plan, Vectors(device), x, code, weights, taken, rows, y).tasks(thread)
    return builder.get()


class _Thread:
    """What one thread does."""

    def __init__(
        self,
        plan: Plan,
        vectors: Vectors,
        x: Buffer,
        zero: Expr,
        weights: Buffer,
        taken: Buffer,
        rows: list[Buffer],
        y: Buffer,
    ) -> None:
        self.plan, self.vectors = plan, vectors
        self.x, self.weights, self.taken, self.rows, self.y = x, weights, taken, rows, y
        self.zero = T.Bind(T.Cast("int32", T.bitwise_xor(zero, T.uint8(plan.offset))))
        self.lane_values = T.alloc_buffer((plan.lanes,), DTYPES[plan.out], align=64)
        self.last = T.alloc_buffer((WORD,), "uint8", align=4)

    def tasks(self, thread: Expr) -> None:
        """All tasks of a thread."""
        plan = self.plan
        share = -(-plan.tiles // plan.threads)
        first = thread * share * plan.tile
        with T.serial(0, share) as task, loop(plan.row_tiles) as tile, loop(plan.tile) as i:
            panel = first + task * plan.tile + i
            row = T.min(tile * plan.rows, plan.m - plan.rows)
            with T.If(panel < plan.panels), T.Then():
                self._micro_tile(row, panel)

    def _micro_tile(self, row: Expr, panel: Expr) -> None:
        plan = self.plan
        slots = list(enumerate(itertools.product(range(plan.rows), range(plan.vectors))))
        acc = Registers(len(slots), "int32", plan.lanes, zeroed=False)
        columns = [panel * plan.panel + v * plan.lanes for v in range(plan.vectors)]
        for slot, (_, v) in slots:
            acc[slot] = T.int32(0) - splat(self.zero, plan.lanes) * load(self.taken, columns[v], plan.lanes)
        with loop(plan.k // WORD) as word:
            self._step(acc, panel, word, [self._word(row + r, word) for r in range(plan.rows)])
        if plan.k % WORD:
            word = plan.k // WORD
            self._step(acc, panel, word, [self._last_word(row + r) for r in range(plan.rows)])
        for slot, (r, v) in slots:
            rows = [self.vectors.let(load(b, columns[v], plan.lanes)) for b in self.rows]
            value = finish(self.vectors, acc[slot], plan.epilogue, rows, plan.out)
            self._store(row + r, columns[v], value)

    def _step(self, acc: Registers, panel: Expr, word: Expr, codes: list[Expr]) -> None:
        plan = self.plan
        size = plan.lanes * WORD
        weights = [load(self.weights, (panel, word, v * size), size) for v in range(plan.vectors)]
        for r, v in itertools.product(range(plan.rows), range(plan.vectors)):
            slot = r * plan.vectors + v
            acc[slot] = add_products(
                acc[slot],
                splat(codes[r], plan.lanes),
                T.reinterpret(f"int32x{plan.lanes}", weights[v]),
                plan.lanes,
                plan.dot,
            )

    def _word(self, row: Expr, word: Expr) -> Expr:
        return self._unsigned(T.reinterpret("int32", load(self.x, (row, word * WORD), WORD)))

    def _last_word(self, row: Expr) -> Expr:
        """The codes beyond the last whole word, and any others, whose weights are zero."""
        rest = self.plan.k % WORD
        store(self.last, 0, splat(T.uint8(0), WORD), WORD)
        for i in range(rest):
            store(self.last, i, self.x[row, self.plan.k - rest + i], 1)
        return self._unsigned(T.reinterpret("int32", load(self.last, 0, WORD)))

    def _unsigned(self, word: Expr) -> Expr:
        return T.Bind(T.bitwise_xor(word, T.int32(_SIGNS)) if self.plan.offset else word)

    def _store(self, row: Expr, column: Expr, value: Expr) -> None:
        plan = self.plan
        if plan.n % plan.panel == 0:
            store(self.y, (row, column), value, plan.lanes)
            return
        store(self.lane_values, 0, value, plan.lanes)
        with T.If(column + plan.lanes <= plan.n):
            with T.Then():
                store(self.y, (row, column), load(self.lane_values, 0, plan.lanes), plan.lanes)
            with T.Else(), T.serial(0, plan.lanes) as lane, T.If(column + lane < plan.n), T.Then():
                store(self.y, (row, column + lane), self.lane_values[lane], 1)
