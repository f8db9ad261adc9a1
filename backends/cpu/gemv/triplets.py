"""Sums of half-table entries of three ternary digits: 13 values and zero, mirrored by a sign (bitnet.cpp's TL2).

A byte of an index line holds the indices of two triplets of one row, a byte of the sign line before it the signs of
eight, the first in the highest bit; a set one leaves the entry as it is. Where bytes permute in whole registers (VBMI),
index and sign together are an index of five bits into a table and its mirror image; elsewhere ``vpshufb`` looks up the
half, and an exclusive or mirrors it (see ``halftables``). Without either, entries are loaded one by one.
"""

from __future__ import annotations

from fettle.backends.cpu.gemv.dots import Partial
from fettle.backends.cpu.gemv.mirror import HalfTables
from fettle.backends.cpu.gemv.plan import TRIPLETS
from fettle.backends.cpu.gemv.words import Expr, Registers, T, constant, intrinsic, load, store

_LOW = 0x0F
_LANE = 16
"""Entries of a table, bytes of a lane of ``vpshufb``."""


class Triplets(HalfTables):
    """``vpermb`` in tables of 32, ``vpshufb`` in tables of 16, or loads."""

    def partials(self, base: Expr, rows: list[Expr], group: Expr) -> list[Partial]:
        plan = self.plan
        sums = self.begin()
        if plan.steps:
            for step in self.steps():
                self._step(base, rows, group, step, TRIPLETS, sums)
        if plan.left_over:
            self._step(base, rows, group, plan.steps, plan.left_over, sums)
        return self.sums_of_rows(sums)

    def _step(self, base: Expr, rows: list[Expr], group: Expr, step: Expr, count: int, sums: Registers) -> None:
        """Add ``count`` triplets, each of all blocks."""
        plan = self.plan
        size = plan.vector_bytes
        look_up = self._in_whole_tables if plan.isa == "avx512" else self._in_half_tables
        first = step * plan.planes
        signs = [self.line(base, block, 0, first) for block in range(plan.blocks)]
        lines: list[Expr] = []
        for triplet in range(count):
            if triplet % 2 == 0:
                lines = [self.line(base, block, 0, first + 1 + triplet // 2) for block in range(plan.blocks)]
            else:
                lines = [_moved(line, 4, 0, size) for line in lines]
            places = [self._place(row, group, step * TRIPLETS + triplet) for row in rows]
            for block, line in enumerate(lines):
                for b, entries in enumerate(look_up(places, line, signs[block], 7 - triplet)):
                    self.add(sums, self.slot(b, block), entries)

    def _place(self, row: Expr, group: Expr, number: Expr) -> Expr:
        """Where the table of a triplet begins."""
        plan = self.plan
        return ((row * plan.groups + group) * plan.table_places + number) * plan.entries

    def _in_whole_tables(self, places: list[Expr], line: Expr, signs: Expr, bit: int) -> list[Expr]:
        """``vpermb``. The register holds four times a table or its mirror image: of index bits 4 and 5, one is the
        sign and the other may be anything, so that signs are moved for every other triplet only."""
        target = 4 + bit % 2
        sign = _moved(signs, bit, target, 64)
        low, high = (T.bitwise_and(v, constant(m, "uint8", 64)) for v, m in ((line, _LOW), (sign, 0xFF - _LOW)))
        index = T.reinterpret("int8x64", T.Bind(T.bitwise_or(low, high)))
        mirrored = [0 if lane >> target & 1 else 255 for lane in range(64)]
        mirror = T.Shuffle([T.uint8(m) for m in mirrored], list(range(64)))
        found = []
        for place in places:
            table = T.reinterpret("int8x64", T.bitwise_xor(self._copies(place, 4), mirror))
            found.append(intrinsic("int8x64", "llvm.x86.avx512.permvar.qi.512", table, index))
        return found

    def _in_half_tables(self, places: list[Expr], line: Expr, signs: Expr, bit: int) -> list[Expr]:
        """``vpshufb`` or loads."""
        size = self.plan.vector_bytes
        index = T.Bind(T.bitwise_and(line, constant(_LOW, "uint8", size)))
        sign = T.reinterpret(f"int8x{size}", _moved(signs, bit, 7, size))
        if size == 64:  # as in ``mirror``: a comparison would go by way of a mask register
            negative = intrinsic("int8x64", "llvm.x86.avx512.pshuf.b.512", constant(-1, "int8", 64), sign)
        else:
            negative = T.bitwise_not(T.shift_right(sign, constant(7, "int8", size)))
        negative = T.Bind(T.reinterpret(f"uint8x{size}", negative))
        find = self._loaded if self.plan.isa == "portable" else self._shuffled
        return [T.bitwise_xor(entries, negative) for entries in find(places, index)]

    def _shuffled(self, places: list[Expr], index: Expr) -> list[Expr]:
        """Each row's entry of the tables at ``places``."""
        size = self.plan.vector_bytes
        name = {64: "llvm.x86.avx512.pshuf.b.512", 32: "llvm.x86.avx2.pshuf.b"}[size]
        found = []
        for place in places:
            table, indices = (T.reinterpret(f"int8x{size}", v) for v in (self._copies(place, size // _LANE), index))
            found.append(T.reinterpret(f"uint8x{size}", intrinsic(f"int8x{size}", name, table, indices)))
        return found

    def _loaded(self, places: list[Expr], index: Expr) -> list[Expr]:
        """The same by loads and stores of single bytes."""
        size = self.plan.vector_bytes
        indices, entries = (T.alloc_buffer((size,), "uint8", align=size) for _ in range(2))
        store(indices, 0, index, size)
        found = []
        for place in places:
            with T.serial(size) as row:
                store(entries, row, self.prepared.values[place + T.Cast("int32", indices[row])], 1)
            found.append(load(entries, 0, size))
        return found

    def _copies(self, place: Expr, copies: int) -> Expr:
        """The table at ``place``, in every lane."""
        table = load(self.prepared.values, place, _LANE)
        return T.Bind(T.Shuffle([table] * copies, list(range(copies * _LANE))))


def _moved(line: Expr, source: int, target: int, size: int) -> Expr:
    """Bit ``source`` of every byte at bit ``target``, and its neighbours as far as they stay in the byte.

    There is no shift of bytes: of words, which leaves anything in the other bits.
    """
    if source == target:
        return line
    words = T.reinterpret(f"uint16x{size // 2}", line)
    shift = T.shift_right if source > target else T.shift_left
    moved = shift(words, constant(abs(source - target), "uint16", size // 2))
    return T.Bind(T.reinterpret(f"uint8x{size}", moved))
