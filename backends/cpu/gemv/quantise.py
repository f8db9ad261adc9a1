"""Rounding one group of activations to 8 bits: as codes, or as tables of the sums of four.

The numbers do not depend on who prepares them, a kernel for itself or the operator ``quantize`` for many: maxima and
integer sums are exact, and a sum of floats is always taken in the same order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from fettle.backends.cpu.gemv.words import Buffer, Expr, Registers, T, fold, loop, splat, store
from fettle.graph.prepared import QUAD

LANES = 16
"""Activations handled at once; LLVM splits the vectors where registers are narrower."""

_TINY = 1e-30
"""Groups whose largest value is below this quantise coarsely instead of dividing by zero."""

Read = Callable[[Expr], Expr]
"""Offset in the group -> 16 activations as float32."""

Span = tuple[Expr, Expr, int]
"""(offset in the group, offset in the codes in words of four, width) of neighbours in both."""


def codes(read: Read, width: int, spans: Iterable[Span], values: Buffer, unroll: int = 1) -> tuple[Expr, Expr]:
    """Emit ``q = round(a / l)`` of the ``width`` activations of a group, ``l = max|a| / 127``.

    Args:
        spans: where they are written; may enter a loop between two.
        values: the codes, int32 words.
        unroll: vectors of a step, each with a maximum of its own.

    Returns:
        (l, Σq as int32)
    """
    largest = Registers(unroll, "float32", LANES)
    with loop(width // (LANES * unroll)) as step:
        for u in range(unroll):
            largest[u] = T.max(largest[u], T.abs(T.Bind(read((step * unroll + u) * LANES))))
    inverse, unit = _scale(fold(_largest(largest, unroll), LANES, T.max))
    sums = Registers(1, "int32", LANES)
    for source, target, span in spans:
        with loop(span // LANES) as i:
            q = T.Bind(_round(T.Bind(read(source + i * LANES)) * splat(inverse, LANES)))
            sums[0] = sums[0] + q
            words = T.reinterpret("int32x4", T.Cast("int8x16", q))
            store(values, target + i * (LANES // 4), words, LANES // 4)
    return unit, fold(sums[0], LANES, lambda u, v: u + v)


def tables(read: Read, width: int, place: Expr, values: Buffer, unroll: int = 1) -> tuple[Expr, Expr]:
    """Emit the tables of a group: entry e of each four activations is ``Σ_i ±a_i / l``, plus where bit i of e is set.

    Args:
        width: a multiple of 16.
        place: of the first table in ``values``, int8.
        unroll: vectors of a step, each with a maximum of its own.

    Returns:
        (l, Σa)
    """
    largest, sums = Registers(unroll, "float32", LANES), Registers(1, "float32", LANES)
    with loop(width // (LANES * unroll)) as step:
        for u in range(unroll):
            value = T.Bind(read((step * unroll + u) * LANES))
            sums[0] = sums[0] + value
            size = T.Bind(T.abs(value))
            for distance in (1, 2):  # every lane gets the sum of its quad
                size = T.Bind(size + T.Shuffle([size], [lane ^ distance for lane in range(LANES)]))
            largest[u] = T.max(largest[u], size)
    inverse, unit = _scale(fold(_largest(largest, unroll), LANES, T.max))
    quads = math.gcd(LANES, width // QUAD)
    with loop(width // (quads * QUAD)) as block:
        first = block * quads * QUAD
        scaled = [T.Bind(read(first + i) * splat(inverse, LANES)) for i in range(0, quads * QUAD, LANES)]
        _store_tables(_upper_sums(scaled, quads), quads, place + first * QUAD, values)
    return unit, fold(sums[0], LANES, lambda u, v: u + v)


def _upper_sums(scaled: list[Expr], quads: int) -> list[Expr]:
    """Entries 8 to 15 of ``quads`` tables, one vector of int8 each: a lane is a quad, the last of its four is added.

    Negating a sum of floats is exact, so two sums stand for four, and nothing is multiplied by a sign.
    """
    a, b, c, d = (T.Bind(T.Shuffle(scaled, [QUAD * lane + i for lane in range(quads)])) for i in range(QUAD))
    plus, minus = T.Bind(a + b), T.Bind(a - b)
    threes = [T.Bind(three) for three in (c - plus, minus + c, c - minus, plus + c)]
    sums = [d - three for three in reversed(threes)] + [three + d for three in threes]
    return [T.Bind(T.Cast(f"int8x{quads}", _round(value, quads))) for value in sums]


def _store_tables(upper: list[Expr], quads: int, place: Expr, values: Buffer) -> None:
    """Store tables of 16 entries, four at a time; the lower eight mirror the upper ones, negated."""
    entries = [max(entry, 2**QUAD - 1 - entry) - len(upper) for entry in range(2**QUAD)]
    negated = T.Shuffle(
        [T.int8(-1 if entry < len(upper) else 0) for _ in range(QUAD) for entry in range(2**QUAD)], list(range(64))
    )
    sources = upper * (2 if quads == QUAD else 1)  # a shuffle cannot have more lanes than its operands
    for quad in range(0, quads, QUAD):
        found = T.Bind(T.Shuffle(sources, [entry * quads + quad + i for i in range(QUAD) for entry in entries]))
        store(values, place + quad * 2**QUAD, T.bitwise_xor(found, negated) - negated, QUAD * 2**QUAD)


def _largest(registers: Registers, count: int) -> Expr:
    value = registers[0]
    for index in range(1, count):
        value = T.max(value, registers[index])
    return value


def _scale(largest: Expr) -> tuple[Expr, Expr]:
    """(127 / largest, largest / 127)."""
    bounded = T.Bind(T.max(largest, T.float32(_TINY)))
    return T.Bind(T.float32(127) / bounded), T.Bind(bounded * T.float32(1 / 127))


def _round(value: Expr, lanes: int = LANES) -> Expr:
    """Nearest int32, ties to even."""
    return T.Cast(f"int32x{lanes}", T.nearbyint(value))
