"""Sums of int8 activations times whole codes: fields are masked in place, never shifted (VNNI), or paired (AVX2).

VNNI keeps one accumulator a field f: what it sums is 2^(f·bits) too large, which one shift at the group's end
takes back. AVX2 has no such instruction: ``vpmaddubsw`` adds pairs in int16, so fields are moved to the low bits
and as many products are added as int16 holds before ``vpmaddwd`` widens them.
"""

from __future__ import annotations

from fettle.backends.cpu.gemv.dots import Dot, Partial
from fettle.backends.cpu.gemv.words import Expr, T, accumulate, constant, intrinsic, splat, total

_INT16_PAIR = 2 * 127
"""``vpmaddubsw`` adds two products with an int8."""


class Vnni(Dot):
    """``vpdpbusd`` on fields masked in place."""

    def partials(self, base: Expr, rows: list[Expr], group: Expr) -> list[Partial]:
        plan = self.plan
        fields, lanes = plan.fields, plan.lanes
        sums = self.registers("int32")
        for step in self.steps():
            for block, part in self.vectors():
                line = self.line(base, block, part, step)
                codes = [_field(line, plan.field, f, plan.vector_bytes) for f in range(fields)]
                for b, row in enumerate(rows):
                    for f in range(fields):
                        index = self.slot(b, block, part) * fields + f
                        activations = self.broadcast_activations(row, group, step * fields + f)
                        sums[index] = dot(sums[index], codes[f], activations, lanes)
        result = []
        for b, block, part, slot in self.slots():
            terms = [_shift_back(sums[slot * fields + f], f * plan.field, lanes) for f in range(fields)]
            result.append(Partial(b, block, part, total(terms)))
        return result

    def broadcast_activations(self, row: Expr, group: Expr, chunk: Expr) -> Expr:
        """Four activations in every 32-bit lane."""
        width = self.plan.padded_group // 4
        word = self.prepared.values[(row * self.plan.groups + group) * width + chunk]
        return T.reinterpret(f"int8x{self.plan.vector_bytes}", splat(word, self.plan.lanes))


class Pairs(Vnni):
    """``vpmaddubsw`` and ``vpmaddwd`` on fields moved to the low bits. Eight-bit codes go as two nibbles."""

    def partials(self, base: Expr, rows: list[Expr], group: Expr) -> list[Partial]:
        plan = self.plan
        lanes, size = plan.lanes, plan.vector_bytes
        nibbles = plan.format.bits == 8  # low and high nibbles of codes have sums of their own
        bits, halves = (4, 2) if nibbles else (plan.field, 1)
        largest = 15 if nibbles else (1 << plan.format.bits) - 1
        per_step = 1 if nibbles else plan.fields  # products of a step that meet in one int16 sum
        chain = (2**15 - 1) // (_INT16_PAIR * largest * per_step)
        sums = self.registers("int32")
        ones = constant(1, "int16", size // 2)
        for steps in self.step_runs():
            for block, part in self.vectors():
                narrow: dict[int, Expr] = {}
                for count, step in enumerate(steps, start=1):
                    line = self.line(base, block, part, step)
                    for f in range(8 // bits):
                        code = _low_field(line, bits, f, size)
                        chunk = step if nibbles else step * plan.fields + f
                        for b, row in enumerate(rows):
                            index = self.slot(b, block, part) * halves + (f if nibbles else 0)
                            activations = self.broadcast_activations(row, group, chunk)
                            accumulate(narrow, index, _pair_products(code, activations, size))
                    if count % chain == 0 or count == len(steps):
                        for index, value in narrow.items():
                            wide = intrinsic(f"int32x{lanes}", "llvm.x86.avx2.pmadd.wd", value, ones)
                            sums[index] = sums[index] + wide
                        narrow.clear()
        result = []
        for b, block, part, slot in self.slots():
            value = sums[slot * halves]
            if nibbles:
                value = value + T.shift_left(sums[slot * halves + 1], constant(4, "int32", lanes))
            result.append(Partial(b, block, part, value))
        return result


def dot(sums: Expr, unsigned: Expr, signed: Expr, lanes: int) -> Expr:
    """``vpdpbusd``: every 32-bit lane gains four products of an unsigned and a signed byte."""
    name = {16: "llvm.x86.avx512.vpdpbusd.512", 8: "llvm.x86.avx512.vpdpbusd.256"}[lanes]
    operand = f"int8x{4 * lanes}"
    return intrinsic(f"int32x{lanes}", name, sums, T.reinterpret(operand, unsigned), signed)


def _field(line: Expr, bits: int, field: int, size: int) -> Expr:
    """Field ``field`` of every byte, in place."""
    if bits == 8:
        return line
    return T.Bind(T.bitwise_and(line, constant(((1 << bits) - 1) << (field * bits), "uint8", size)))


def _low_field(line: Expr, bits: int, field: int, size: int) -> Expr:
    """Field ``field`` of every byte, in its low bits (there is no shift of bytes: shift words, then mask)."""
    if bits == 8:
        return line
    if field:
        words = T.reinterpret(f"uint16x{size // 2}", line)
        line = T.reinterpret(f"uint8x{size}", T.shift_right(words, constant(field * bits, "uint16", size // 2)))
    return T.Bind(T.bitwise_and(line, constant((1 << bits) - 1, "uint8", size)))


def _pair_products(code: Expr, activations: Expr, size: int) -> Expr:
    """``vpmaddubsw``: sums of two neighbouring products, in int16."""
    operand = T.reinterpret(f"int8x{size}", code)
    return intrinsic(f"int16x{size // 2}", "llvm.x86.avx2.pmadd.ub.sw", operand, activations)


def _shift_back(value: Expr, bits: int, lanes: int) -> Expr:
    return T.shift_right(value, constant(bits, "int32", lanes)) if bits else value
