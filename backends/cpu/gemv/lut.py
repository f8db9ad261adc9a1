"""Sums of table entries: each bit plane of four neighbouring codes indexes 16 sums of their activations.

``Permute`` (AVX-512 VBMI and VNNI): a 64-byte register holds the tables of four quads; the four bytes of a
32-bit lane are indices of one row into the four tables, so after ``vpermb`` one ``vpdpbusd`` with 2^plane in every
byte widens and adds, exactly. ``Shuffle`` (AVX2, AVX-512BW): ``vpshufb`` looks up one table for 32 or 64 rows, and
``vpmaddubsw`` with 2^plane adds two quads in int16, as many as int16 holds (T-MAC, 2407.00088, without its rounding
averages).
"""

from __future__ import annotations

from fettle.backends.cpu.gemv.dots import Dot, Partial
from fettle.backends.cpu.gemv.integer import dot
from fettle.backends.cpu.gemv.words import Expr, Registers, T, accumulate, constant, intrinsic, load, total

_TABLE = 16
"""Entries of a table, and bytes."""

_INT16_PAIR = 2 * 127
"""Two table entries."""


class Permute(Dot):
    """``vpermb`` and ``vpdpbusd``."""

    def partials(self, base: Expr, rows: list[Expr], group: Expr) -> list[Partial]:
        plan = self.plan
        sums = self.registers("int32")
        for step in self.steps():
            tables = [[self._tables(row, group, step * 2 + half) for half in range(2)] for row in rows]
            for block in range(plan.blocks):
                for plane in range(plan.planes):
                    line = self.line(base, block, 0, step * plan.planes + plane)
                    weight = constant(1 << plane, "uint8", 64)
                    indices = [T.Bind(T.bitwise_or(nibbles, _own_table())) for nibbles in _nibbles(line, 64)]
                    for b in range(plan.batch):
                        for half in range(2):
                            found = intrinsic(
                                "int8x64",
                                "llvm.x86.avx512.permvar.qi.512",
                                tables[b][half],
                                T.reinterpret("int8x64", indices[half]),
                            )
                            index = self.slot(b, block) * plan.accumulators + half % plan.accumulators
                            sums[index] = dot(sums[index], weight, found, plan.lanes)
        halves = range(plan.accumulators)
        return [
            Partial(b, block, part, total([sums[slot * plan.accumulators + half] for half in halves]))
            for b, block, part, slot in self.slots()
        ]

    def _tables(self, row: Expr, group: Expr, index: Expr) -> Expr:
        """The tables of four neighbouring quads."""
        plan = self.plan
        first = (row * plan.groups + group) * plan.padded_group * 4
        return load(self.prepared.values, first + index * 4 * _TABLE, 4 * _TABLE)


class Shuffle(Dot):
    """``vpshufb`` and ``vpmaddubsw``."""

    def partials(self, base: Expr, rows: list[Expr], group: Expr) -> list[Partial]:
        plan = self.plan
        chain = (2**15 - 1) // (_INT16_PAIR * ((1 << plan.planes) - 1))
        sums = self.registers("int32")
        for steps in self.step_runs():
            for start in range(0, len(steps), chain):
                self._run(steps[start : start + chain], base, rows, group, sums)
        return [
            Partial(b, block, quarter, sums[slot * 4 + quarter])
            for b, block, part, slot in self.slots()
            for quarter in range(4)
        ]

    def _run(self, steps: list[Expr], base: Expr, rows: list[Expr], group: Expr, sums: Registers) -> None:
        """Add a few steps in int16, then to the int32 sums."""
        plan = self.plan
        near: dict[int, Expr] = {}
        far: dict[int, Expr] = {}
        for step in steps:
            tables = [[self._table(row, group, step * 2 + half) for half in range(2)] for row in rows]
            for block in range(plan.blocks):
                for plane in range(plan.planes):
                    line = self.line(base, block, 0, step * plan.planes + plane)
                    indices = _nibbles(line, plan.vector_bytes)
                    for b in range(plan.batch):
                        first, second = (
                            _look_up(tables[b][half], indices[half], plan.vector_bytes) for half in range(2)
                        )
                        index = self.slot(b, block)
                        # a register is lanes of 128 bits, 16 rows: the first 8 of each are near, the others far
                        accumulate(near, index, _add_pairs(first, second, 0, plane, plan.vector_bytes))
                        accumulate(far, index, _add_pairs(first, second, 8, plane, plan.vector_bytes))
        size, lanes = plan.vector_bytes, plan.lanes
        for index, first in near.items():
            for quarter in range(4):
                picked = [_word(quarter * lanes + row, size) for row in range(lanes)]
                wide = T.Cast(f"int32x{lanes}", T.Shuffle([first, far[index]], picked))
                sums[index * 4 + quarter] = sums[index * 4 + quarter] + wide

    def _table(self, row: Expr, group: Expr, quad: Expr) -> Expr:
        """The table of one quad, in every lane."""
        plan = self.plan
        first = (row * plan.groups + group) * plan.padded_group * 4
        table = load(self.prepared.values, first + quad * _TABLE, _TABLE)
        copies = plan.vector_bytes // _TABLE
        return T.Bind(T.Shuffle([table] * copies, list(range(copies * _TABLE))))


def _nibbles(line: Expr, size: int) -> tuple[Expr, Expr]:
    """Low and high nibble of every byte."""
    mask = constant(15, "uint8", size)
    words = T.reinterpret(f"uint16x{size // 2}", line)
    high = T.reinterpret(f"uint8x{size}", T.shift_right(words, constant(4, "uint16", size // 2)))
    return T.Bind(T.bitwise_and(line, mask)), T.Bind(T.bitwise_and(high, mask))


def _own_table() -> Expr:
    """Byte j of a 32-bit lane looks into table j of the register: 16·j."""
    return T.reinterpret("uint8x64", constant(0x30201000, "uint32", 16))


def _look_up(table: Expr, index: Expr, size: int) -> Expr:
    name = {64: "llvm.x86.avx512.pshuf.b.512", 32: "llvm.x86.avx2.pshuf.b"}[size]
    return T.Bind(intrinsic(f"int8x{size}", name, table, T.reinterpret(f"int8x{size}", index)))


def _add_pairs(first: Expr, second: Expr, offset: int, plane: int, size: int) -> Expr:
    """2^plane · (first + second) in int16, for 8 rows of each 128-bit lane."""
    name = {64: "llvm.x86.avx512.pmaddubs.w.512", 32: "llvm.x86.avx2.pmadd.ub.sw"}[size]
    order = [
        lane * 16 + offset + row + source * size
        for lane in range(size // 16)
        for row in range(8)
        for source in range(2)
    ]
    pairs = T.Shuffle([first, second], order)
    weight = T.reinterpret(f"int8x{size}", constant(1 << plane, "uint8", size))
    return intrinsic(f"int16x{size // 2}", name, weight, pairs)


def _word(row: int, size: int) -> int:
    """Where the sum of a row is, counted over the near words and then the far ones."""
    lane, inside = divmod(row, 16)
    return inside // 8 * (size // 2) + lane * 8 + inside % 8
