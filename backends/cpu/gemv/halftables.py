"""Tables for ``mirror`` and ``triplets``: 128 bytes for the activations of one step, or 16 for three of them.

A step of ``mirror`` is eight activations whose signs are the bits of an octet, or five whose factors are ternary
digits; a triplet is three digits. Their sums come in pairs ±s, so a table holds one of each. In units of l, entries
lie on the grid ±0.5, ±1.5, … ±127.5, which is symmetric: a byte e stands for ``e - 127.5``, and the mirror image of e
is its complement 255 - e. Sums are built in 16 bits, 1/256 of a unit each, biased by 2^15; their upper bytes are the
entries, which rounds to the grid.
"""

from __future__ import annotations

from collections.abc import Iterable

from fettle.backends.cpu.gemv import quintets
from fettle.backends.cpu.gemv.plan import Plan
from fettle.backends.cpu.gemv.words import Buffer, Expr, Registers, T, constant, fold, load, loop, read, splat, store
from fettle.backends.rounding import ceil_div

_LANES = 16
_WORDS = 32
"""Sums in a vector."""

_LARGEST = 127.5 * 256
"""What the largest sum becomes: exactly the largest entry, and below 2^15 even when eight activations round up."""

_TINY = 1e-30


def padded_width(plan: Plan) -> int:
    """Floats of a group of activations in whole vectors, with one more behind for windows to run into."""
    width = ceil_div(plan.padded_group, _LANES) * _LANES
    return width + _LANES if plan.has_half_tables else width


def half_tables(plan: Plan, a: Buffer, tables: Buffer, factor: Buffer, pair: Expr) -> Expr:
    """Emit the tables and the factor of one (row, group) pair; returns the sum of its activations."""
    width = ceil_div(plan.padded_group, _LANES) * _LANES
    largest, sums = Registers(1, "float32", _LANES), Registers(1, "float32", _LANES)
    with loop(width // _LANES) as i:
        sums[0] = sums[0] + read(a, i * _LANES, _LANES)
        size = T.Bind(T.abs(load(a, i * _LANES, _LANES)))
        for j in range(1, plan.table_k):  # every window bounds the tables among them
            size = T.Bind(size + T.abs(load(a, i * _LANES + j, _LANES)))
        largest[0] = T.max(largest[0], size)
    bounded = T.Bind(T.max(fold(largest[0], _LANES, T.max), T.float32(_TINY)))
    total = fold(sums[0], _LANES, lambda u, v: u + v)
    rounded = T.alloc_buffer((width + _LANES,), "int16", align=64)
    inverse = T.Bind(T.float32(_LARGEST) / bounded)
    with loop(width // _LANES) as i:
        scaled = T.Cast(f"int32x{_LANES}", T.nearbyint(load(a, i * _LANES, _LANES) * splat(inverse, _LANES)))
        store(rounded, i * _LANES, T.Cast(f"int16x{_LANES}", scaled), _LANES)
    unit = 256.0 / _LARGEST
    # no entry is zero, so a group of zeros has no size instead
    size = T.Select(bounded > T.float32(_TINY), bounded, T.float32(0))
    store(factor, pair, size * T.float32(unit if plan.sums_digits else unit / 2), 1)
    if plan.is_triplets:
        _pairs_of_triplets(plan, rounded, tables, pair * plan.table_places)
    else:
        _steps(plan, rounded, tables, pair * plan.tables)
    return total


def _steps(plan: Plan, rounded: Buffer, tables: Buffer, first: Expr) -> None:
    """Emit the tables of 128 entries, one a step, from number ``first`` on."""
    build = _quintet if plan.sums_digits else _octet
    with loop(plan.tables) as step:
        values = [splat(load(rounded, step * plan.table_k + i, 1), _WORDS) for i in range(plan.table_k)]
        blocks = build(values)
        for half in range(2):
            pair_of_blocks = [T.reinterpret("uint8x64", b) for b in blocks[2 * half : 2 * half + 2]]
            upper = T.Shuffle(pair_of_blocks, [2 * i + 1 for i in range(64)])
            store(tables, (first + step) * plan.entries + half * 64, upper, 64)


def _pairs_of_triplets(plan: Plan, rounded: Buffer, tables: Buffer, first: Expr) -> None:
    """Emit the tables of 16 entries, two at a time. Entry e is ``Σ t_i·a_i`` with ``Σ t_i·3^i = e``; two are unused."""
    with loop(plan.table_places // 2) as two:
        window = load(rounded, two * 6, 8)
        sums = constant(-(2**15), "int16", _WORDS)
        for i in range(3):
            values = T.Shuffle([window] * 4, [i + 3 * (lane // 16) for lane in range(_WORDS)])
            sums = T.Bind(sums + values * _lanes(_triplet_digit(lane % 16, i) for lane in range(_WORDS)))
        upper = T.shift_right(T.reinterpret(f"uint16x{_WORDS}", sums), constant(8, "uint16", _WORDS))
        store(tables, (first + two * 2) * plan.entries, T.Cast(f"uint8x{_WORDS}", upper), _WORDS)


def _octet(values: list[Expr]) -> list[Expr]:
    """Entry e is the last activation plus the others, each negative where its bit of e is clear."""
    low = T.Bind(values[7] + constant(-(2**15), "int16", _WORDS))
    for i in range(5):
        low = T.Bind(low + values[i] * _lanes(1 if lane >> i & 1 else -1 for lane in range(_WORDS)))
    minus, plus = T.Bind(low - values[5]), T.Bind(low + values[5])
    return [T.Bind(v) for v in (minus - values[6], plus - values[6], minus + values[6], plus + values[6])]


def _quintet(values: list[Expr]) -> list[Expr]:
    """See ``quintets``."""
    low = constant(-(2**15), "int16", _WORDS)
    for i in range(3):
        low = T.Bind(low + values[i] * _lanes(_digit(lane, i) for lane in range(_WORDS)))
    main = _lanes(-1 if lane < quintets.MAIN else 0 for lane in range(_WORDS))
    high = (values[3], values[4] - values[3], values[4], values[3] + values[4])
    return [
        T.Bind(
            T.Shuffle([low], [quintets.source_lane(block, lane) for lane in range(_WORDS)]) + T.bitwise_and(value, main)
        )
        for block, value in enumerate(high)
    ]


def _triplet_digit(value: int, place: int) -> int:
    return quintets.digits(value, 3)[place] if value <= quintets.LARGEST_TRIPLET else 0


def _digit(lane: int, place: int) -> int:
    return quintets.digits(lane - 13, 3)[place] if lane < quintets.MAIN else 0


def _lanes(values: Iterable[int]) -> Expr:
    """A constant vector of 16-bit lanes."""
    return T.Shuffle([T.int16(value) for value in values], list(range(_WORDS)))
