"""Rounding one group of activations to 8 bits: as codes, or as tables of the sums of four.

The numbers do not depend on who prepares them, a kernel for itself or the operator ``quantize`` for many: maxima and
integer sums are exact, and a sum of floats is always taken in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fettle.backends.cpu.gemv.words import Buffer, Expr, Registers, T, fold, loop, splat, store, total
from fettle.graph.prepared import QUAD, SIGNS

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


def tables(read: Read, read_one: Read, width: int, place: Expr, values: Buffer, unroll: int = 1) -> tuple[Expr, Expr]:
    """Emit the tables of a group: entry e of each four activations is ``Σ_i ±a_i / l``, plus where bit i of e is set.

    Args:
        read_one: offset in the group -> one activation.
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
    with loop(width // QUAD) as quad:
        terms = [_signs(i) * splat(T.Bind(read_one(quad * QUAD + i) * inverse), LANES) for i in range(QUAD)]
        store(values, place + quad * LANES, T.Cast("int8x16", _round(total(terms))), LANES)
    return unit, fold(sums[0], LANES, lambda u, v: u + v)


def _largest(registers: Registers, count: int) -> Expr:
    value = registers[0]
    for index in range(1, count):
        value = T.max(value, registers[index])
    return value


def _scale(largest: Expr) -> tuple[Expr, Expr]:
    """(127 / largest, largest / 127)."""
    bounded = T.Bind(T.max(largest, T.float32(_TINY)))
    return T.Bind(T.float32(127) / bounded), T.Bind(bounded * T.float32(1 / 127))


def _round(value: Expr) -> Expr:
    """Nearest int32, ties to even."""
    return T.Cast(f"int32x{LANES}", T.nearbyint(value))


def _signs(bit: int) -> Expr:
    """+1 in the lanes whose number has the bit set, -1 in the others."""
    return T.Shuffle([T.float32(sign) for sign in SIGNS[:, bit]], list(range(LANES)))
