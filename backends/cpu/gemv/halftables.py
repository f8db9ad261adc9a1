"""Tables of 128 bytes for the activations of one step, for ``mirror``.

A step is eight activations whose signs are the bits of an octet, or five whose factors are ternary digits. Its sums
come in pairs ±s, so a table holds one of each. In units of l, entries lie on the grid ±0.5, ±1.5, … ±127.5, which is
symmetric: a byte e stands for ``e - 127.5``, and the mirror image of e is its complement 255 - e. Sums are built in
16 bits, 1/256 of a unit each, biased by 2^15; their upper bytes are the entries, which rounds to the grid.
"""

from __future__ import annotations

from collections.abc import Iterable

from fettle.backends.cpu.gemv import quintets
from fettle.backends.cpu.gemv.plan import Plan
from fettle.backends.cpu.gemv.words import Buffer, Expr, Registers, T, constant, fold, load, loop, read, splat, store
from fettle.backends.rounding import ceil_div

ENTRIES = 128
"""Entries of a table, and bytes."""

_LANES = 16
_WORDS = 32
"""Sums in a vector."""

_LARGEST = 127.5 * 256
"""What the largest sum becomes: exactly the largest entry, and below 2^15 even when eight activations round up."""

_TINY = 1e-30


def padded_width(plan: Plan) -> int:
    """Floats of a group of activations in whole vectors, with one more behind for windows to run into."""
    width = ceil_div(plan.padded_group, _LANES) * _LANES
    return width + _LANES if plan.is_mirror else width


def half_tables(plan: Plan, a: Buffer, tables: Buffer, factor: Buffer, pair: Expr) -> Expr:
    """Emit the tables and the factor of one (row, group) pair; returns the sum of its activations."""
    width = ceil_div(plan.padded_group, _LANES) * _LANES
    largest, sums = Registers(1, "float32", _LANES), Registers(1, "float32", _LANES)
    with loop(width // _LANES) as i:
        sums[0] = sums[0] + read(a, i * _LANES, _LANES)
        size = T.Bind(T.abs(load(a, i * _LANES, _LANES)))
        for j in range(1, plan.step_k):  # every window bounds the steps among them
            size = T.Bind(size + T.abs(load(a, i * _LANES + j, _LANES)))
        largest[0] = T.max(largest[0], size)
    bounded = T.Bind(T.max(fold(largest[0], _LANES, T.max), T.float32(_TINY)))
    total = fold(sums[0], _LANES, lambda u, v: u + v)
    rounded = T.alloc_buffer((width,), "int16", align=64)
    inverse = T.Bind(T.float32(_LARGEST) / bounded)
    with loop(width // _LANES) as i:
        scaled = T.Cast(f"int32x{_LANES}", T.nearbyint(load(a, i * _LANES, _LANES) * splat(inverse, _LANES)))
        store(rounded, i * _LANES, T.Cast(f"int16x{_LANES}", scaled), _LANES)
    unit = 256.0 / _LARGEST
    # no entry is zero, so a group of zeros has no size instead
    size = T.Select(bounded > T.float32(_TINY), bounded, T.float32(0))
    store(factor, pair, size * T.float32(unit if plan.is_ternary_mirror else unit / 2), 1)
    build = _quintet if plan.is_ternary_mirror else _octet
    with loop(plan.steps) as step:
        values = [splat(load(rounded, step * plan.step_k + i, 1), _WORDS) for i in range(plan.step_k)]
        blocks = build(values)
        for half in range(2):
            pair_of_blocks = [T.reinterpret("uint8x64", b) for b in blocks[2 * half : 2 * half + 2]]
            upper = T.Shuffle(pair_of_blocks, [2 * i + 1 for i in range(64)])
            store(tables, (pair * plan.steps + step) * ENTRIES + half * 64, upper, 64)
    return total


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


def _digit(lane: int, place: int) -> int:
    return quintets.digits(lane - 13, 3)[place] if lane < quintets.MAIN else 0


def _lanes(values: Iterable[int]) -> Expr:
    """A constant vector of 16-bit lanes."""
    return T.Shuffle([T.int16(value) for value in values], list(range(_WORDS)))
