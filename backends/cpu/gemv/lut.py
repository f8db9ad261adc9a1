"""Sums of table entries: each bit plane of four neighbouring codes indexes 16 sums of their activations.

``Permute`` (AVX-512 VBMI and VNNI): a 64-byte register holds the tables of four quads; the four bytes of a
32-bit lane are indices of one row into the four tables, so after ``vpermb`` one ``vpdpbusd`` with 2^plane in every
byte widens and adds, exactly. ``Shuffle`` (AVX2): ``vpshufb`` looks up one table for 32 rows, and ``vpmaddubsw``
with 2^plane adds two quads in int16, as many as int16 holds (T-MAC, 2407.00088, without its rounding averages).
"""

from __future__ import annotations

from fettle.backends.cpu.gemv.dots import Dot, Partial
from fettle.backends.cpu.gemv.integer import dot
from fettle.backends.cpu.gemv.words import Expr, Registers, T, accumulate, constant, intrinsic, load

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
                    line = self.line(base, block, 0, step, plane)
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
                            index = self.slot(b, block) * 2 + half
                            sums[index] = dot(sums[index], weight, found, plan.lanes)
        return [Partial(b, block, part, sums[slot * 2] + sums[slot * 2 + 1]) for b, block, part, slot in self.slots()]

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
                    line = self.line(base, block, 0, step, plane)
                    indices = _nibbles(line, 32)
                    for b in range(plan.batch):
                        first, second = (_look_up(tables[b][half], indices[half]) for half in range(2))
                        index = self.slot(b, block)
                        # a 256-bit register is two lanes: rows 0-7 and 16-23 are near, 8-15 and 24-31 far
                        accumulate(near, index, _add_pairs(first, second, 0, plane))
                        accumulate(far, index, _add_pairs(first, second, 8, plane))
        for index, first in near.items():
            halves = [(first, 0), (far[index], 0), (first, 8), (far[index], 8)]
            for quarter, (source, half) in enumerate(halves):
                wide = T.Cast("int32x8", T.Shuffle([source], list(range(half, half + 8))))
                sums[index * 4 + quarter] = sums[index * 4 + quarter] + wide

    def _table(self, row: Expr, group: Expr, quad: Expr) -> Expr:
        """The table of one quad, in both lanes."""
        plan = self.plan
        first = (row * plan.groups + group) * plan.padded_group * 4
        table = load(self.prepared.values, first + quad * _TABLE, _TABLE)
        return T.Bind(T.Shuffle([table, table], list(range(32))))


def _nibbles(line: Expr, size: int) -> tuple[Expr, Expr]:
    """Low and high nibble of every byte."""
    mask = constant(15, "uint8", size)
    words = T.reinterpret(f"uint16x{size // 2}", line)
    high = T.reinterpret(f"uint8x{size}", T.shift_right(words, constant(4, "uint16", size // 2)))
    return T.Bind(T.bitwise_and(line, mask)), T.Bind(T.bitwise_and(high, mask))


def _own_table() -> Expr:
    """Byte j of a 32-bit lane looks into table j of the register: 16·j."""
    return T.reinterpret("uint8x64", constant(0x30201000, "uint32", 16))


def _look_up(table: Expr, index: Expr) -> Expr:
    return T.Bind(intrinsic("int8x32", "llvm.x86.avx2.pshuf.b", table, T.reinterpret("int8x32", index)))


def _add_pairs(first: Expr, second: Expr, offset: int, plane: int) -> Expr:
    """2^plane · (first + second) in int16, for 8 rows of each 128-bit lane."""
    order = [lane * 16 + offset + row + source * 32 for lane in range(2) for row in range(8) for source in range(2)]
    pairs = T.Shuffle([first, second], order)
    weight = T.reinterpret("int8x32", constant(1 << plane, "uint8", 32))
    return intrinsic("int16x16", "llvm.x86.avx2.pmadd.ub.sw", weight, pairs)
