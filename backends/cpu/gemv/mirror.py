"""Sums of half-table entries: a byte (eight bits of a plane, or five ternary digits) is an index and a sign.

``vpermi2b`` looks 64 rows up in one table of 128 entries (it ignores the sign bit); ``vpshufb`` of all ones yields
zeros where the sign bit is set and ones elsewhere, and an exclusive or with that mirrors an entry (see ``halftables``).
"""

from __future__ import annotations

from fettle.backends.cpu.gemv.dots import Dot, Partial
from fettle.backends.cpu.gemv.words import Expr, Registers, T, constant, intrinsic, load, total

_BYTE = 255


class HalfTables(Dot):
    """Sums of bytes, each of another row.

    Bytes of two rows share a 16-bit word. W sums whole words and H their upper bytes, both modulo 2^16; the lower
    bytes' sum is then ``W - 2^8·H``: two additions and a shift, where widening would take unpacking.
    """

    @property
    def words(self) -> int:
        """Words of a line."""
        return self.plan.vector_bytes // 2

    def add(self, sums: Registers, number: int, entries: Expr) -> None:
        """Add a line of entries to sum ``number``, registers ``2 · number`` and the next."""
        words = T.Bind(T.reinterpret(f"uint16x{self.words}", entries))
        sums[2 * number] = sums[2 * number] + words
        sums[2 * number + 1] = sums[2 * number + 1] + T.shift_right(words, constant(8, "uint16", self.words))

    def sums_of_rows(self, sums: Registers) -> list[Partial]:
        """``Σ_p 2^p · plane`` of all rows: lower bytes are the first half of a block's rows."""
        plan, result = self.plan, []
        for b, block, _, slot in self.slots():
            pairs = [(slot * plan.summed_planes + plane) * 2 for plane in range(plan.summed_planes)]
            uppers = [T.Bind(sums[index + 1]) for index in pairs]
            lowers = [
                T.Bind(sums[index] - T.shift_left(upper, constant(8, "uint16", self.words)))
                for index, upper in zip(pairs, uppers, strict=True)
            ]
            for half, planes in enumerate((lowers, uppers)):
                for quarter in range(2):
                    result.append(Partial(b, block, half * 2 + quarter, self._wide(planes, quarter)))
        return result

    def _wide(self, planes: list[Expr], quarter: int) -> Expr:
        """A vector of rows in 32 bits; summed in 16 bits for as long as they suffice."""
        plan = self.plan
        lanes = list(range(quarter * plan.lanes, (quarter + 1) * plan.lanes))
        if _BYTE * plan.tables * ((1 << plan.summed_planes) - 1) < 1 << 16:
            shifted = [_shifted(value, p, "uint16", self.words) for p, value in enumerate(planes)]
            return T.Cast(f"int32x{plan.lanes}", T.Shuffle([T.Bind(total(shifted))], lanes))
        wide = [T.Cast(f"int32x{plan.lanes}", T.Shuffle([value], lanes)) for value in planes]
        return T.Bind(total([_shifted(value, p, "int32", plan.lanes) for p, value in enumerate(wide)]))


class Mirror(HalfTables):
    """``vpermi2b`` and ``vpshufb``."""

    def partials(self, base: Expr, rows: list[Expr], group: Expr) -> list[Partial]:
        plan = self.plan
        sums = self.registers("uint16", self.words)
        ones = constant(-1, "int8", 64)
        for step in self.steps():
            tables = [self._table(row, group, step) for row in rows]
            for block in range(plan.blocks):
                for plane in range(plan.planes):
                    line = T.Bind(T.reinterpret("int8x64", self.line(base, block, 0, step, plane)))
                    sign = T.Bind(intrinsic("int8x64", "llvm.x86.avx512.pshuf.b.512", ones, line))
                    for b, (first, second) in enumerate(tables):
                        entry = intrinsic("int8x64", "llvm.x86.avx512.vpermi2var.qi.512", first, line, second)
                        number = self.slot(b, block) * plan.planes + plane
                        self.add(sums, number, T.bitwise_xor(entry, sign))
        return self.sums_of_rows(sums)

    def _table(self, row: Expr, group: Expr, step: Expr) -> tuple[Expr, Expr]:
        plan = self.plan
        first = ((row * plan.groups + group) * plan.tables + step) * plan.entries
        low, high = (load(self.prepared.values, first + half, 64) for half in (0, 64))
        return T.Bind(T.reinterpret("int8x64", low)), T.Bind(T.reinterpret("int8x64", high))


def _shifted(value: Expr, bits: int, dtype: str, lanes: int) -> Expr:
    return T.shift_left(value, constant(bits, dtype, lanes)) if bits else value
