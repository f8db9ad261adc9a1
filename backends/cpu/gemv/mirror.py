"""Sums of half-table entries: a byte (eight bits of a plane, or five ternary digits) is an index and a sign.

``vpermi2b`` looks 64 rows up in one table of 128 entries (it ignores the sign bit); an exclusive or with the inverted
sign in all bits mirrors an entry (see ``halftables``). ``vgf2p8affineqb`` spreads it, by a matrix that has it in every
row, and leaves the units alone that look up; else ``vpshufb`` of all ones, which yields zeros where it is set.
"""

from __future__ import annotations

from fettle.backends.cpu.gemv.dots import Dot, Partial
from fettle.backends.cpu.gemv.words import Expr, Registers, T, constant, intrinsic, load

_WORD = 1 << 16

_SPREAD_SIGN = -0x7F7F_7F7F_7F7F_7F80
"""The 8x8 bit matrix whose rows are bit 7 of the operand, as int64."""


class HalfTables(Dot):
    """Sums of bytes, each of another row.

    Bytes of two rows share a 16-bit word. W sums whole words and H their upper bytes, both modulo 2^16; the lower
    bytes' sum is then ``W - 2^8·H``: two additions and a shift, where widening would take unpacking. Both begin where
    the sums of a group end around zero (``Plan.start``), so that words are signed. Two words share a lane of 32 bits:
    as its upper half, by a shift or a mask, each is a sum in units of 2^-16.
    """

    @property
    def words(self) -> int:
        """Words of a line."""
        return self.plan.vector_bytes // 2

    def begin(self) -> Registers:
        """Sums that nothing has been added to."""
        plan = self.plan
        sums = self.registers("uint16", self.words, zeroed=False)
        for number in range(plan.batch * plan.blocks):
            for index, start in enumerate((257 * plan.start, plan.start)):
                sums[2 * number + index] = constant(start % _WORD, "uint16", self.words)
        return sums

    def double(self, sums: Registers) -> None:
        """What was summed so far counts twice."""
        for index in range(2 * self.plan.batch * self.plan.blocks):
            sums[index] = sums[index] + sums[index]

    def add(self, sums: Registers, number: int, entries: Expr) -> None:
        """Add a line of entries to sum ``number``, registers ``2 · number`` and the next."""
        words = T.Bind(T.reinterpret(f"uint16x{self.words}", entries))
        sums[2 * number] = sums[2 * number] + words
        sums[2 * number + 1] = sums[2 * number + 1] + T.shift_right(words, constant(8, "uint16", self.words))

    def sums_of_rows(self, sums: Registers) -> list[Partial]:
        """Sums of all rows: byte q of every lane is a row of the q-th quarter of a block."""
        lanes, result = self.plan.lanes, []
        for b, block, _, slot in self.slots():
            upper = T.Bind(sums[2 * slot + 1])
            lower = T.Bind(sums[2 * slot] - T.shift_left(upper, constant(8, "uint16", self.words)))
            pairs = [T.reinterpret(f"int32x{lanes}", words) for words in (lower, upper)]
            for quarter, pair in enumerate((*pairs, *pairs)):
                if quarter < 2:
                    value = T.shift_left(pair, constant(16, "int32", lanes))
                else:
                    value = T.bitwise_and(pair, constant(-_WORD, "int32", lanes))
                result.append(Partial(b, block, quarter, value))
        return result


class Mirror(HalfTables):
    """``vpermi2b`` and the sign. Planes are summed one after another from the highest on, doubled in between."""

    def partials(self, base: Expr, rows: list[Expr], group: Expr) -> list[Partial]:
        plan = self.plan
        sums = self.begin()
        for plane in range(plan.planes):
            if plane:
                self.double(sums)
            for step in self.steps():
                tables = [self._table(row, group, step) for row in rows]
                for block in range(plan.blocks):
                    line = self.line(base, block, 0, plane * plan.steps + step)
                    line = T.Bind(T.reinterpret("int8x64", line))
                    negative = self._negative(line)
                    for b, (first, second) in enumerate(tables):
                        entry = intrinsic("int8x64", "llvm.x86.avx512.vpermi2var.qi.512", first, line, second)
                        self.add(sums, self.slot(b, block), T.bitwise_xor(entry, negative))
        return self.sums_of_rows(sums)

    def _negative(self, line: Expr) -> Expr:
        """All ones in every byte whose sign bit is clear."""
        if self.plan.has_gfni:
            matrix = T.reinterpret("int8x64", constant(_SPREAD_SIGN, "int64", 8))
            return T.Bind(intrinsic("int8x64", "llvm.x86.vgf2p8affineqb.512", line, matrix, T.int8(-1)))
        return T.Bind(intrinsic("int8x64", "llvm.x86.avx512.pshuf.b.512", constant(-1, "int8", 64), line))

    def _table(self, row: Expr, group: Expr, step: Expr) -> tuple[Expr, Expr]:
        plan = self.plan
        first = ((row * plan.groups + group) * plan.tables + step) * plan.entries
        low, high = (load(self.prepared.values, first + half, 64) for half in (0, 64))
        return T.Bind(T.reinterpret("int8x64", low)), T.Bind(T.reinterpret("int8x64", high))
